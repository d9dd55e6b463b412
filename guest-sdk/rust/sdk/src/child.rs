//! Splitting a task into children.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::bindings::split as raw;
use crate::error::{Error, Result};
use crate::host;
use crate::task::Actor;

/// Registers children of this task and returns their ids, in order. They begin once the step has ended well; if it does not, there are
/// none. Only agents may split, at most 10 000 children unless the definition says otherwise.
///
/// Splitting again under the same key with the same content is the same child, so a step may split in several calls.
///
/// # Errors
/// [`SplitError`], which says what was refused and why; nothing of a refused call is registered. With `?` in a step it becomes a
/// fatal [`Error`], with a code such as `SPLIT_CYCLE`.
pub fn split(children: impl IntoIterator<Item = Child>) -> Result<Vec<String>, SplitError> {
    host::split(children.into_iter().map(|child| child.0).collect()).map_err(SplitError::from)
}

/// A child to split off.
///
/// ```
/// use command_tower::prelude::*;
/// use std::time::Duration;
///
/// # fn children() -> Result<Vec<Child>> {
/// Ok(vec![
///     Child::new("prices", "load-prices").params(&json!({ "symbol": "TSLA" }))?,
///     Child::new("trend", "find-trend").after(["prices"]).priority(8).timeout(Duration::from_secs(60)),
/// ])
/// # }
/// # assert_eq!(children().map(|children| children.len()), Ok(2));
/// ```
#[derive(Clone, Debug)]
pub struct Child(raw::Child);

impl Child {
    /// A child named `key` among its siblings (1 to 128 bytes of `A-Za-z0-9._-`) that runs `definition`, with the
    /// definition's own params and settings until told otherwise.
    pub fn new(key: impl Into<String>, definition: impl Into<String>) -> Self {
        Self(raw::Child {
            key: key.into(),
            definition: definition.into(),
            params: "{}".to_owned(),
            depends_on: Vec::new(),
            run_on: None,
            actor: None,
            priority: None,
            timeout_sec: None,
            max_retries: None,
        })
    }

    /// Params, laid over the definition's defaults key by key at the top level. At most 1 MiB of JSON.
    ///
    /// # Errors
    /// Fatal, code `BAD_JSON`, when they do not become JSON.
    pub fn params(mut self, params: &(impl Serialize + ?Sized)) -> Result<Self> {
        self.0.params = serde_json::to_string(params)
            .map_err(|error| Error::fatal("BAD_JSON", format!("the params of child `{}` do not become JSON: {error}", self.0.key)))?;
        Ok(self)
    }

    /// Begins only when these siblings, named by key, have succeeded, and reads their results by
    /// [`Task::upstream`](crate::Task::upstream). They may be of this call or an earlier one.
    pub fn after<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.0.depends_on.extend(keys.into_iter().map(Into::into));
        self
    }

    /// What the siblings that it depends on must have come to. Default: success, and for aggregators any end.
    pub fn run_on(mut self, run_on: RunOn) -> Self {
        self.0.run_on = Some(match run_on {
            RunOn::Success => raw::RunOn::Success,
            RunOn::Finished => raw::RunOn::Finished,
        });
        self
    }

    /// The part it plays, instead of the definition's.
    pub fn actor(mut self, actor: Actor) -> Self {
        self.0.actor = Some(actor.into());
        self
    }

    /// 1 to 10, 10 the most urgent, instead of the definition's.
    pub fn priority(mut self, priority: u8) -> Self {
        self.0.priority = Some(priority);
        self
    }

    /// How long an attempt may take, instead of the definition's: 1 second to a day, rounded up to seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        let seconds = timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0));
        self.0.timeout_sec = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        self
    }

    /// How often it is tried again after retryable failures, 0 to 100, instead of the definition's.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.0.max_retries = Some(retries);
        self
    }

    /// Its name among its siblings.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// The definition that it runs.
    pub fn definition(&self) -> &str {
        &self.0.definition
    }

    /// Its params, as JSON text.
    pub fn params_json(&self) -> &str {
        &self.0.params
    }

    /// The siblings that it depends on, by key.
    pub fn depends_on(&self) -> &[String] {
        &self.0.depends_on
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn from_raw(raw: raw::Child) -> Self {
        Self(raw)
    }
}

/// What the siblings that a child depends on must have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOn {
    /// All succeeded; if one ends in another way, the child is skipped.
    Success,
    /// All ended, in whatever way.
    Finished,
}

/// Why a split was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// This task is not an agent, stands at the deepest layer that its definition allows, or has already ended.
    NotAllowed,
    /// More children than the definition's `max_children`.
    TooManyChildren,
    /// The trace would hold more tasks than the host allows.
    TraceTooLarge,
    /// A key, a number or the params of a child are out of bounds or malformed.
    InvalidChild,
    /// The key is taken by a child with other content.
    DuplicateKey,
    /// A child depends on a key that is not a sibling's.
    UnknownDependency,
    /// A child depends on itself, directly or by way of others.
    Cycle,
    /// There is no such definition, or it is not active.
    UnknownDefinition,
}

impl Refusal {
    /// The code of the [`Error`] that this becomes.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAllowed => "SPLIT_NOT_ALLOWED",
            Self::TooManyChildren => "SPLIT_TOO_MANY_CHILDREN",
            Self::TraceTooLarge => "SPLIT_TRACE_TOO_LARGE",
            Self::InvalidChild => "SPLIT_INVALID_CHILD",
            Self::DuplicateKey => "SPLIT_DUPLICATE_KEY",
            Self::UnknownDependency => "SPLIT_UNKNOWN_DEPENDENCY",
            Self::Cycle => "SPLIT_CYCLE",
            Self::UnknownDefinition => "SPLIT_UNKNOWN_DEFINITION",
        }
    }
}

/// A split that was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitError {
    /// Why, to match on.
    pub reason: Refusal,
    /// The child that was refused, if it was one of them.
    pub key: Option<String>,
    /// Why, for people.
    pub message: String,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "split refused at child `{key}`: {}", self.message),
            None => write!(f, "split refused: {}", self.message),
        }
    }
}

impl std::error::Error for SplitError {}

impl From<raw::SplitError> for SplitError {
    fn from(error: raw::SplitError) -> Self {
        let reason = match error.reason {
            raw::Refusal::NotAllowed => Refusal::NotAllowed,
            raw::Refusal::TooManyChildren => Refusal::TooManyChildren,
            raw::Refusal::TraceTooLarge => Refusal::TraceTooLarge,
            raw::Refusal::InvalidChild => Refusal::InvalidChild,
            raw::Refusal::DuplicateKey => Refusal::DuplicateKey,
            raw::Refusal::UnknownDependency => Refusal::UnknownDependency,
            raw::Refusal::Cycle => Refusal::Cycle,
            raw::Refusal::UnknownDefinition => Refusal::UnknownDefinition,
        };
        Self { reason, key: error.key, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_rounded_up_to_seconds() {
        let child = Child::new("a", "b").timeout(Duration::from_millis(1500));
        assert_eq!(child.0.timeout_sec, Some(2));
        assert_eq!(Child::new("a", "b").timeout(Duration::MAX).0.timeout_sec, Some(u32::MAX));
    }

    #[test]
    fn a_refusal_becomes_a_fatal_error_with_a_code() {
        let refused = SplitError { reason: Refusal::Cycle, key: Some("a".into()), message: "a → b → a".into() };
        let error = Error::from(refused);
        assert_eq!(error.to_string(), "SPLIT_CYCLE: split refused at child `a`: a → b → a");
        assert!(!error.is_retryable());
    }
}
