//! How a step fails.

use std::fmt;
use std::time::Duration;

use crate::bindings::types;
use crate::child::SplitError;

/// What a step returns: its output, or an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest text that the tower takes for a message, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Why a step failed, and whether trying again may help.
///
/// ```
/// use command_tower::Error;
/// use std::time::Duration;
///
/// let busy = Error::retryable("RATE_LIMITED", "the source asks for patience").after(Duration::from_secs(30));
/// let hopeless = Error::fatal("NO_DATA", "nothing is known of this company");
/// assert!(busy.is_retryable() && !hopeless.is_retryable());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Retryable { code: String, message: String, after: Option<Duration> },
    Fatal { code: String, message: String },
    Cancelled,
}

impl Error {
    /// A failure that may pass: the tower tries again with backoff while the definition allows it.
    ///
    /// `code` is an upper-case word that callers may match on; of `message`, the first 64 KiB are kept.
    pub fn retryable(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Self(Kind::Retryable { code: code.into(), message: bounded(message.to_string()), after: None })
    }

    /// A failure that no retry would change.
    ///
    /// `code` is an upper-case word that callers may match on; of `message`, the first 64 KiB are kept.
    pub fn fatal(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Self(Kind::Fatal { code: code.into(), message: bounded(message.to_string()) })
    }

    /// The step stopped tidily because it was asked to. [`check_cancel`](crate::check_cancel) returns this.
    pub fn cancelled() -> Self {
        Self(Kind::Cancelled)
    }

    /// Do not try again sooner than this from now. Only a retryable error has use for it; others stay as they are.
    pub fn after(mut self, delay: Duration) -> Self {
        if let Kind::Retryable { after, .. } = &mut self.0 {
            *after = Some(delay);
        }
        self
    }

    /// The error's code; `CANCELLED` when the step was cancelled.
    pub fn code(&self) -> &str {
        match &self.0 {
            Kind::Retryable { code, .. } | Kind::Fatal { code, .. } => code,
            Kind::Cancelled => "CANCELLED",
        }
    }

    /// What went wrong, for people.
    pub fn message(&self) -> &str {
        match &self.0 {
            Kind::Retryable { message, .. } | Kind::Fatal { message, .. } => message,
            Kind::Cancelled => "cancelled",
        }
    }

    /// Whether the tower may try again.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0, Kind::Retryable { .. })
    }

    /// Whether the step stopped because it was asked to.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0, Kind::Cancelled)
    }

    /// How long to wait at least, if the step asked for it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.0 {
            Kind::Retryable { after, .. } => after,
            Kind::Fatal { .. } | Kind::Cancelled => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Retryable { code, message, .. } | Kind::Fatal { code, message } => write!(f, "{code}: {message}"),
            Kind::Cancelled => f.write_str("cancelled"),
        }
    }
}

impl std::error::Error for Error {}

/// A value that does not become JSON, or JSON that is not the value: fatal, code `BAD_JSON`.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::fatal("BAD_JSON", error)
    }
}

/// Code `IO_ERROR`; fatal for what is missing, forbidden or malformed, else retryable.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, PermissionDenied, Unsupported};
        match error.kind() {
            NotFound | PermissionDenied | InvalidInput | InvalidData | Unsupported => Self::fatal("IO_ERROR", error),
            _ => Self::retryable("IO_ERROR", error),
        }
    }
}

/// A refused split is fatal, with the refusal as its code, such as `SPLIT_CYCLE`.
impl From<SplitError> for Error {
    fn from(error: SplitError) -> Self {
        Self::fatal(error.reason.code(), error)
    }
}

impl From<Error> for types::StepError {
    fn from(error: Error) -> Self {
        match error.0 {
            Kind::Retryable { code, message, after } => Self::Retryable(types::Retry {
                fault: types::Fault { code, message },
                after_ms: after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            }),
            Kind::Fatal { code, message } => Self::Fatal(types::Fault { code, message }),
            Kind::Cancelled => Self::Cancelled,
        }
    }
}

/// `text` cut to what the tower takes, between two characters.
pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = Error::fatal("LONG", "é".repeat(MESSAGE_BYTES_MAX));
        assert_eq!(error.message().len(), MESSAGE_BYTES_MAX);
        let odd = Error::fatal("LONG", format!("x{}", "é".repeat(MESSAGE_BYTES_MAX)));
        assert_eq!(odd.message().len(), MESSAGE_BYTES_MAX - 1);
    }

    #[test]
    fn only_a_retryable_error_carries_a_delay() {
        let delay = Duration::from_millis(250);
        assert_eq!(Error::retryable("BUSY", "later").after(delay).retry_after(), Some(delay));
        assert_eq!(Error::fatal("NO", "never").after(delay).retry_after(), None);
        assert_eq!(Error::cancelled().after(delay), Error::cancelled());
    }

    #[test]
    fn a_missing_file_is_fatal_and_a_timeout_is_not() {
        assert!(!Error::from(std::io::Error::from(std::io::ErrorKind::NotFound)).is_retryable());
        assert!(Error::from(std::io::Error::from(std::io::ErrorKind::TimedOut)).is_retryable());
    }
}
