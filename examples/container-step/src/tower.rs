//! The four powers, over the socket that every container is shown.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

/// Where the socket is, should the environment not say.
const SOCKET: &str = "/run/tower/tower.sock";

/// The tower, as one attempt reaches it.
pub(crate) struct Tower {
    path: String,
    token: String,
}

impl Tower {
    /// From what was handed over.
    pub(crate) fn of(handed: &Value) -> Self {
        let url = handed["attempt"]["url"].as_str().unwrap_or_default();
        let path = url.strip_prefix("http://tower").unwrap_or(url).to_owned();
        Self { path, token: handed["attempt"]["token"].as_str().unwrap_or_default().to_owned() }
    }

    /// Reads, such as `/check-cancel?wait=5`.
    pub(crate) fn get(&self, what: &str) -> Result<Value, String> {
        self.call("GET", what, "", &self.token)
    }

    /// Says, such as `/events`.
    pub(crate) fn post(&self, what: &str, body: &Value) -> Result<Value, String> {
        self.call("POST", what, &body.to_string(), &self.token)
    }

    /// The same with a token of somebody else's.
    pub(crate) fn post_as(&self, what: &str, body: &Value, token: &str) -> Result<Value, String> {
        self.call("POST", what, &body.to_string(), token)
    }

    /// Reads a path that is no attempt's.
    pub(crate) fn get_outside(&self, path: &str) -> Result<Value, String> {
        request(&format!("GET {path} HTTP/1.1\r\nhost: tower\r\nconnection: close\r\n\r\n"))
    }

    fn call(&self, method: &str, what: &str, body: &str, token: &str) -> Result<Value, String> {
        let (path, bytes) = (&self.path, body.len());
        let head = format!("{method} {path}{what} HTTP/1.1\r\nhost: tower\r\nauthorization: Bearer {token}\r\nconnection: close");
        let kind = if body.is_empty() { String::new() } else { format!("\r\ncontent-type: application/json\r\ncontent-length: {bytes}") };
        request(&format!("{head}{kind}\r\n\r\n{body}"))
    }
}

fn request(text: &str) -> Result<Value, String> {
    let socket = std::env::var("TOWER_SOCKET").unwrap_or_else(|_| SOCKET.to_owned());
    let speak = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.write_all(text.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = speak().map_err(|error| format!("the tower cannot be reached at {socket}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer breaks off")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let value = serde_json::from_str(body).unwrap_or(Value::Null);
    if status.starts_with('2') { Ok(value) } else { Err(format!("{status}: {body}")) }
}
