//! A component's standard output and error: line by line into the task's log. The last lines of its standard error are kept, because
//! a panic or an uncaught exception says only there what went wrong.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::io::AsyncWrite;
use tower_domain::step::{LOG_LINE_BYTES_MAX, LogLevel, LogLine, LogStream, StepHost};
use tower_domain::task::clean;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// What one write may bring, in bytes.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Lines of standard error that a failure quotes.
const LAST_LINES_MAX: usize = 12;
/// Of each of them, bytes.
const LAST_LINE_BYTES_MAX: usize = 300;

/// Both streams of one component.
#[derive(Clone)]
pub(crate) struct Stdio(Arc<Shared>);

struct Shared {
    host: Arc<dyn StepHost>,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    /// Begun and not ended.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    last_of_stderr: VecDeque<String>,
}

impl Stdio {
    pub(crate) fn into_log_of(host: Arc<dyn StepHost>) -> Self {
        Self(Arc::new(Shared { host, lines: Mutex::default() }))
    }

    pub(crate) fn stdout(&self) -> impl StdoutStream + use<> {
        Pipe { shared: Arc::clone(&self.0), stream: LogStream::Stdout }
    }

    pub(crate) fn stderr(&self) -> impl StdoutStream + use<> {
        Pipe { shared: Arc::clone(&self.0), stream: LogStream::Stderr }
    }

    /// Hands on lines that were begun and not ended.
    pub(crate) fn finish(&self) {
        let mut lines = self.0.lock();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            self.0.end_line(&mut lines, stream);
        }
    }

    /// The last lines of standard error; empty if there were none.
    pub(crate) fn last_of_stderr(&self) -> String {
        let lines = self.0.lock();
        lines.last_of_stderr.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock()
    }

    fn write(&self, stream: LogStream, bytes: &[u8]) {
        let mut lines = self.lock();
        for (index, piece) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.end_line(&mut lines, stream);
            }
            let line = lines.of(stream);
            // One byte too many tells `clean` that something was cut; more than that need not be kept.
            let room = (LOG_LINE_BYTES_MAX + 1).saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    fn end_line(&self, lines: &mut Lines, stream: LogStream) {
        let bytes = std::mem::take(lines.of(stream));
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_suffix('\r').unwrap_or(&text);
        if text.is_empty() {
            return;
        }
        let level = if stream == LogStream::Stderr { LogLevel::Warn } else { LogLevel::Info };
        if stream == LogStream::Stderr {
            if lines.last_of_stderr.len() == LAST_LINES_MAX {
                lines.last_of_stderr.pop_front();
            }
            lines.last_of_stderr.push_back(clean(text, LAST_LINE_BYTES_MAX));
        }
        self.host.log(LogLine { stream, level, message: clean(text, LOG_LINE_BYTES_MAX), fields: None });
    }
}

impl Lines {
    fn of(&mut self, stream: LogStream) -> &mut Vec<u8> {
        if stream == LogStream::Stderr { &mut self.stderr } else { &mut self.stdout }
    }
}

/// One stream; every handle that a component opens is one of these.
#[derive(Clone)]
struct Pipe {
    shared: Arc<Shared>,
    stream: LogStream,
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl OutputStream for Pipe {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.shared.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[async_trait::async_trait]
impl Pollable for Pipe {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.write(self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
