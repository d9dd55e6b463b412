//! Hearing what the outside wants.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::host;

/// What the outside wants of this step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Nothing special.
    GoOn,
    /// The trace is paused: the step may finish, or return [`Outcome::paused`](crate::Outcome::paused) to be run again later.
    Pause,
    /// The task is cancelled, with the reason that was given: return soon, after the grace time it is stopped.
    Cancel(String),
}

/// What the outside wants. Cheap enough for an inner loop.
pub fn signal() -> Signal {
    host::check_cancel()
}

/// Goes on unless the task is cancelled. Cheap enough for an inner loop; a pause is not heard here, see [`signal`].
///
/// # Errors
/// [`Error::cancelled`], so that `?` ends the step tidily.
pub fn check_cancel() -> Result<()> {
    go_on(&signal())
}

/// Waits without holding anything up. Returns early when the trace is paused, once, so a loop that must wait to the end looks at
/// the clock, and one that should stop asks [`signal`].
///
/// # Errors
/// [`Error::cancelled`], at once when the task is cancelled.
pub fn sleep(duration: Duration) -> Result<()> {
    go_on(&sleep_signal(duration))
}

/// As [`sleep`], and says what ended it: [`Signal::GoOn`] when the time was over.
pub fn sleep_signal(duration: Duration) -> Signal {
    // Rounded up: a wait of a microsecond should not become none.
    let milliseconds = duration.as_nanos().div_ceil(1_000_000);
    host::sleep(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}

fn go_on(signal: &Signal) -> Result<()> {
    match signal {
        Signal::GoOn | Signal::Pause => Ok(()),
        Signal::Cancel(_) => Err(Error::cancelled()),
    }
}
