//! A connection whose every byte the test decides about.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::host::Host;

/// Longest that an answer or an end is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a host.
pub(super) struct Raw(TcpStream);

/// What came until the host closed, and how long that took.
pub(super) struct Ended {
    pub(super) text: String,
    pub(super) took: Duration,
}

impl Raw {
    pub(super) async fn connect(host: &Host) -> Self {
        let socket = TcpStream::connect(host.url.strip_prefix("http://").unwrap()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self(socket)
    }

    /// Connects and sends.
    pub(super) async fn saying(host: &Host, bytes: impl AsRef<[u8]>) -> Self {
        let mut raw = Self::connect(host).await;
        raw.send(bytes).await;
        raw
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await, "the host has closed");
    }

    /// Whether the host still takes something.
    pub(super) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Everything until the host closes.
    pub(super) async fn until_closed(&mut self) -> Ended {
        let (begin, mut all) = (Instant::now(), Vec::new());
        let mut piece = [0; 4096];
        loop {
            // A host that closes with something unread resets the connection.
            match tokio::time::timeout(PATIENCE, self.0.read(&mut piece)).await.expect("the host closes").unwrap_or(0) {
                0 => return Ended { text: String::from_utf8_lossy(&all).into_owned(), took: begin.elapsed() },
                length => all.extend_from_slice(&piece[..length]),
            }
        }
    }

    /// Sends a byte at each pause until the host closes, and answers what it said.
    pub(super) async fn dripping_until_closed(&mut self, pause: Duration, at_most: Duration) -> Ended {
        let (begin, mut all, mut piece) = (Instant::now(), Vec::new(), [0; 4096]);
        loop {
            match tokio::time::timeout(pause, self.0.read(&mut piece)).await {
                Ok(Ok(0) | Err(_)) => return Ended { text: String::from_utf8_lossy(&all).into_owned(), took: begin.elapsed() },
                Ok(Ok(length)) => all.extend_from_slice(&piece[..length]),
                Err(_) => {
                    assert!(begin.elapsed() < at_most, "the host takes it all");
                    self.try_send("a").await;
                }
            }
        }
    }

    /// Whether the host closes within a time, and what it says meanwhile.
    pub(super) async fn closes_within(&mut self, at_most: Duration) -> bool {
        let mut piece = [0; 4096];
        let closed = async { while self.0.read(&mut piece).await.unwrap_or(0) > 0 {} };
        tokio::time::timeout(at_most, closed).await.is_ok()
    }

    /// The next answer: its status and its body.
    pub(super) async fn answer(&mut self) -> (u16, String) {
        let mut all = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&all).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap()));
                if body.len() >= length.unwrap_or(0) {
                    return (head[9..12].parse().unwrap(), body.to_owned());
                }
            }
            let read = tokio::time::timeout(PATIENCE, self.0.read_buf(&mut all)).await.expect("an answer comes").unwrap();
            assert!(read > 0, "closed after `{text}`");
        }
    }
}

impl Ended {
    /// The statuses of all answers that came.
    pub(super) fn statuses(&self) -> Vec<u16> {
        self.text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
    }

    /// The body of the one answer that came.
    pub(super) fn body(&self) -> Value {
        serde_json::from_str(self.text.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// A POST of JSON whose body is still to come.
pub(super) fn post(path: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}\r\n")
}

/// A GET.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}
