//! How a step ends well.

use serde::Serialize;

use crate::bindings::types;
use crate::error::{Error, Result};

/// How a step ended well, for those that have more to say than a value. A function may return `Result<T>` or
/// `Result<Outcome<T>>`.
///
/// ```
/// use command_tower::prelude::*;
///
/// fn poll(task: Task<Value>) -> Result<Outcome<u32>> {
///     let seen = task.carried::<u32>()?.unwrap_or(0) + 1;
///     if signal() == Signal::Pause {
///         return Ok(Outcome::paused(seen));
///     }
///     if seen == 10 { Ok(Outcome::last(seen)) } else { Ok(Outcome::done(seen)) }
/// }
/// ```
#[derive(Debug)]
pub enum Outcome<T> {
    /// Finished, with the output. If the step split, its aggregate finds this in [`Task::carried`](crate::Task::carried).
    Done(T),
    /// Finished, and a LOOP ends with this round.
    Last(T),
    /// Stopped early because the trace is paused.
    Paused(State),
}

/// What a paused step leaves for the one that goes on.
#[derive(Debug)]
pub struct State(serde_json::Result<String>);

impl<T> Outcome<T> {
    /// Finished, with the output. The same as returning the bare value.
    pub fn done(output: T) -> Self {
        Self::Done(output)
    }

    /// Finished, and a LOOP ends with this round. Outside of one, the same as [`done`](Self::done).
    pub fn last(output: T) -> Self {
        Self::Last(output)
    }

    /// Stopped early because [`signal`](crate::signal) said [`Pause`](crate::Signal::Pause). When the trace is resumed the
    /// step runs again, and finds `state` in [`Task::carried`](crate::Task::carried).
    pub fn paused(state: impl Serialize) -> Self {
        Self::Paused(State(serde_json::to_string(&state)))
    }
}

/// What a step or an aggregate may return: any `serde::Serialize`, or an [`Outcome`] of it.
pub trait IntoOutcome: sealed::Sealed {
    #[doc(hidden)]
    fn into_outcome(self) -> Result<types::Outcome>;
}

mod sealed {
    pub trait Sealed {}
    impl<T: serde::Serialize> Sealed for T {}
    impl<T: serde::Serialize> Sealed for super::Outcome<T> {}
}

impl<T: Serialize> IntoOutcome for T {
    fn into_outcome(self) -> Result<types::Outcome> {
        Ok(types::Outcome::Done(output_json(&self)?))
    }
}

impl<T: Serialize> IntoOutcome for Outcome<T> {
    fn into_outcome(self) -> Result<types::Outcome> {
        match self {
            Self::Done(output) => Ok(types::Outcome::Done(output_json(&output)?)),
            Self::Last(output) => Ok(types::Outcome::Last(output_json(&output)?)),
            Self::Paused(State(state)) => Ok(types::Outcome::Paused(state.map_err(bad_output)?)),
        }
    }
}

fn output_json(output: &impl Serialize) -> Result<String> {
    serde_json::to_string(output).map_err(bad_output)
}

fn bad_output(error: serde_json::Error) -> Error {
    Error::fatal("BAD_OUTPUT", format!("the output does not become JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_outcomes_become_json() {
        assert!(matches!(7.into_outcome(), Ok(types::Outcome::Done(json)) if json == "7"));
        assert!(matches!(Outcome::last("x").into_outcome(), Ok(types::Outcome::Last(json)) if json == "\"x\""));
        assert!(matches!(Outcome::<()>::paused([1, 2]).into_outcome(), Ok(types::Outcome::Paused(json)) if json == "[1,2]"));
    }

    #[test]
    fn an_output_that_is_not_json_is_fatal() {
        let by_pair = std::collections::BTreeMap::from([((1, 2), 3)]);
        let error = by_pair.into_outcome().expect_err("keys of JSON objects are text");
        assert_eq!((error.code(), error.is_retryable()), ("BAD_OUTPUT", false));
    }
}
