//! What a container writes: its lines go to the log of the step that it runs, as they come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tower_domain::definition::bounds::JSON_BYTES_MAX;
use tower_domain::step::{LOG_LINE_BYTES_MAX, LogLevel, LogLine, LogStream, StepHost};
use tower_domain::task::clean;

/// Last lines of standard error that a message quotes.
const TAIL_LINES: usize = 8;
/// Bytes of one of them.
const TAIL_LINE_BYTES: usize = 400;

/// How long nothing comes before it is held that nothing more is on its way: the engine brings what a container writes when it gets to it, which
/// may be after the container's own answer.
const CALM: Duration = Duration::from_millis(10);
/// How long that is waited for, with one that goes on writing.
const CALM_WITHIN: Duration = Duration::from_millis(200);

/// What standard output is.
enum Stdout {
    /// The output of the step, whole.
    Output(Vec<u8>),
    /// Lines as those of standard error.
    Lines(Vec<u8>),
}

struct Inner {
    host: Option<Arc<dyn StepHost>>,
    stdout: Stdout,
    stderr: Vec<u8>,
    tail: VecDeque<String>,
}

/// What a container writes.
pub(crate) struct Logs {
    inner: Mutex<Inner>,
    state: watch::Sender<State>,
    /// Pieces that were read.
    pieces: watch::Sender<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It wrote more than an output may be.
    TooMuch,
    Closed,
}

impl Logs {
    /// `output` says that standard output is the step's output.
    pub(crate) fn new(output: bool, host: Option<Arc<dyn StepHost>>) -> Self {
        let stdout = if output { Stdout::Output(Vec::new()) } else { Stdout::Lines(Vec::new()) };
        let inner = Inner { host, stdout, stderr: Vec::new(), tail: VecDeque::new() };
        Self { inner: Mutex::new(inner), state: watch::Sender::new(State::Open), pieces: watch::Sender::new(0) }
    }

    /// Whose log the lines go to from now on; none: nobody's.
    pub(crate) fn tell(&self, host: Option<Arc<dyn StepHost>>) {
        self.inner.lock().host = host;
    }

    /// Reads until there is no more. Goes on reading when nobody wants it: a container that is not read stands still.
    pub(crate) async fn read(&self, mut output: impl Stream<Item = Result<LogOutput, Error>> + Unpin) {
        while let Some(Ok(piece)) = output.next().await {
            match piece {
                LogOutput::StdErr { message } => self.stderr(&message),
                LogOutput::StdOut { message } | LogOutput::Console { message } => self.stdout(&message),
                LogOutput::StdIn { .. } => {}
            }
            self.pieces.send_modify(|pieces| *pieces += 1);
        }
        let mut inner = self.inner.lock();
        let stderr = std::mem::take(&mut inner.stderr);
        inner.line(LogStream::Stderr, &stderr);
        if let Stdout::Lines(rest) = &mut inner.stdout {
            let rest = std::mem::take(rest);
            inner.line(LogStream::Stdout, &rest);
        }
        drop(inner);
        self.state.send_replace(State::Closed);
    }

    fn stderr(&self, bytes: &[u8]) {
        let mut inner = self.inner.lock();
        let mut partial = std::mem::take(&mut inner.stderr);
        for line in lines(&mut partial, bytes) {
            inner.line(LogStream::Stderr, &line);
        }
        inner.stderr = partial;
    }

    fn stdout(&self, bytes: &[u8]) {
        let mut inner = self.inner.lock();
        match &mut inner.stdout {
            Stdout::Output(output) => {
                let room = (JSON_BYTES_MAX + 1).saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if bytes.len() > room {
                    self.state.send_if_modified(|state| std::mem::replace(state, State::TooMuch) != State::TooMuch);
                }
            }
            Stdout::Lines(partial) => {
                let mut partial = std::mem::take(partial);
                for line in lines(&mut partial, bytes) {
                    inner.line(LogStream::Stdout, &line);
                }
                inner.stdout = Stdout::Lines(partial);
            }
        }
    }

    /// Ends when it writes more than an output may be.
    pub(crate) async fn too_much(&self) {
        let mut state = self.state.subscribe();
        if state.wait_for(|state| *state == State::TooMuch).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends when all was read that there was.
    pub(crate) async fn closed(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| *state == State::Closed).await;
    }

    /// Ends when nothing has come for a moment, or nothing can any more.
    pub(crate) async fn calm(&self) {
        let mut pieces = self.pieces.subscribe();
        let calm = async { while tokio::time::timeout(CALM, pieces.changed()).await.is_ok() {} };
        tokio::select! {
            () = calm => {}
            () = self.closed() => {}
            () = tokio::time::sleep(CALM_WITHIN) => {}
        }
    }

    /// The step's output.
    pub(crate) fn output(&self) -> Vec<u8> {
        match &mut self.inner.lock().stdout {
            Stdout::Output(output) => std::mem::take(output),
            Stdout::Lines(_) => Vec::new(),
        }
    }

    /// The last lines of its standard error.
    pub(crate) fn tail(&self) -> String {
        self.inner.lock().tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Inner {
    fn line(&mut self, stream: LogStream, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(line);
        if stream == LogStream::Stderr {
            if self.tail.len() >= TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(clean(&text, TAIL_LINE_BYTES));
        }
        if let Some(host) = &self.host {
            host.log(LogLine { stream, level: LogLevel::Info, message: clean(&text, LOG_LINE_BYTES_MAX), fields: None });
        }
    }
}

/// The lines that these bytes end; what is no line yet stays in `partial`, unless it is as long as a line may be.
fn lines(partial: &mut Vec<u8>, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        partial.extend_from_slice(piece);
        if partial.ends_with(b"\n") {
            let mut line = std::mem::take(partial);
            line.truncate(line.len() - 1);
            if line.ends_with(b"\r") {
                line.truncate(line.len() - 1);
            }
            whole.push(line);
        } else if partial.len() >= LOG_LINE_BYTES_MAX {
            whole.push(std::mem::take(partial));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_pieces_and_bounded() {
        let mut partial = Vec::new();
        assert_eq!(lines(&mut partial, b"one\ntw"), [b"one".to_vec()]);
        assert_eq!(lines(&mut partial, b"o\r\n\nthr"), [b"two".to_vec(), Vec::new()]);
        assert_eq!(partial, b"thr");
        assert_eq!(lines(&mut partial, &vec![b'x'; LOG_LINE_BYTES_MAX]).len(), 1);
        assert!(partial.is_empty());
    }
}
