//! What a step is given to work on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;

use crate::bindings::types;
use crate::error::{Error, Result};

/// One attempt at one task.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Task<P> {
    /// The task's params: the definition's defaults with those of the caller laid over them.
    pub params: P,
    /// ULID of the task; the same for every attempt.
    pub id: String,
    /// ULID of the trace that the task belongs to.
    pub trace_id: String,
    /// Name of the definition that the task runs.
    pub definition: String,
    /// The task's name among its siblings; `root` for the root of a trace.
    pub key: String,
    /// The part that the task plays in the tree.
    pub actor: Actor,
    /// The definition's `role`, a free word; empty when it has none.
    pub role: String,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Attempts that may still follow this one after a retryable failure.
    pub retries_left: u32,
    /// The round of a LOOP, from 0.
    pub round_index: u32,
    /// How many agents stand above this task.
    pub layer: u32,
    /// How many tasks stand above this task.
    pub depth: u32,
    /// Whether [`split`](crate::split()) can succeed for this task at all.
    pub may_split: bool,
    /// When this attempt is stopped, in milliseconds since the Unix epoch.
    pub deadline_ms: u64,
    /// The same text for every attempt at this step: hand it to services that must not act twice.
    pub idempotency_key: String,
    pub(crate) upstream: Vec<TaskResult>,
    pub(crate) carried: Option<String>,
}

impl<P> Task<P> {
    /// The result of the sibling `key`, one of those that this task depends on.
    ///
    /// # Errors
    /// Fatal, code `NO_UPSTREAM`, when the task does not depend on such a sibling.
    pub fn upstream(&self, key: &str) -> Result<&TaskResult> {
        self.upstream.iter().find(|result| result.key == key).ok_or_else(|| {
            let known: Vec<&str> = self.upstream.iter().map(|result| result.key.as_str()).collect();
            let message = format!("this task does not depend on `{key}`; it depends on: {}", known.join(", "));
            Error::fatal("NO_UPSTREAM", message)
        })
    }

    /// The results of all siblings that this task depends on, in the order in which it named them.
    pub fn upstreams(&self) -> &[TaskResult] {
        &self.upstream
    }

    /// What the step before this one left: in an aggregate, the output of the step that split; after a pause, what the step
    /// returned when it paused. None for the first step of a task.
    ///
    /// # Errors
    /// Fatal, code `BAD_CARRIED`, when it is not a `T`.
    pub fn carried<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let Some(json) = &self.carried else { return Ok(None) };
        serde_json::from_str(json)
            .map(Some)
            .map_err(|error| Error::fatal("BAD_CARRIED", format!("what was carried over is not what the code reads it as: {error}")))
    }

    /// How long this attempt may still run; zero when its time is over.
    pub fn time_left(&self) -> Duration {
        #[expect(clippy::disallowed_methods, reason = "a guest has no Clock but WASI's")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(self.deadline_ms).saturating_sub(now)
    }
}

impl<P: DeserializeOwned> Task<P> {
    /// Reads the params as the author's type.
    pub(crate) fn read(raw: types::Task) -> Result<Self> {
        let params = serde_json::from_str(&raw.params).map_err(|error| Error::fatal("BAD_PARAMS", format!("params: {error}")))?;
        Ok(Self {
            params,
            id: raw.id,
            trace_id: raw.trace_id,
            definition: raw.definition,
            key: raw.key,
            actor: raw.actor.into(),
            role: raw.role,
            attempt: raw.attempt,
            retries_left: raw.retries_left,
            round_index: raw.round_index,
            layer: raw.layer,
            depth: raw.depth,
            may_split: raw.may_split,
            deadline_ms: raw.deadline_ms,
            idempotency_key: raw.idempotency_key,
            upstream: raw.upstream.into_iter().map(TaskResult::from).collect(),
            carried: raw.carried,
        })
    }
}

/// The part that a task plays in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Works, and may split into children.
    Agent,
    /// Works; never splits.
    Execution,
    /// Folds the results of its siblings.
    GroupAgg,
    /// Post-processes the result of exactly one sibling.
    SingleAgg,
}

impl From<types::ActorType> for Actor {
    fn from(actor: types::ActorType) -> Self {
        match actor {
            types::ActorType::Agent => Self::Agent,
            types::ActorType::Execution => Self::Execution,
            types::ActorType::GroupAgg => Self::GroupAgg,
            types::ActorType::SingleAgg => Self::SingleAgg,
        }
    }
}

impl From<Actor> for types::ActorType {
    fn from(actor: Actor) -> Self {
        match actor {
            Actor::Agent => Self::Agent,
            Actor::Execution => Self::Execution,
            Actor::GroupAgg => Self::GroupAgg,
            Actor::SingleAgg => Self::SingleAgg,
        }
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// With an output.
    Success,
    /// With an error, its retries spent.
    Failed,
    /// Stopped by an order.
    Cancelled,
    /// Never begun, because something that it depended on did not succeed.
    Skipped,
}

impl From<types::Status> for Status {
    fn from(status: types::Status) -> Self {
        match status {
            types::Status::Success => Self::Success,
            types::Status::Failed => Self::Failed,
            types::Status::Cancelled => Self::Cancelled,
            types::Status::Skipped => Self::Skipped,
        }
    }
}

/// The error that ended another task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// An upper-case word to match on.
    pub code: String,
    /// What went wrong, for people.
    pub message: String,
}

/// What another task came to: a sibling that this one depends on, or a child.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskResult {
    /// ULID of that task.
    pub task_id: String,
    /// Its name among its siblings.
    pub key: String,
    /// How it ended.
    pub status: Status,
    /// Why it did not succeed.
    pub error: Option<Fault>,
    /// Where an output that is too large to be handed over is kept.
    pub output_ref: Option<String>,
    pub(crate) output: Option<String>,
}

impl TaskResult {
    /// Whether there is an output.
    pub fn succeeded(&self) -> bool {
        self.status == Status::Success
    }

    /// The task's output, read as a `T`.
    ///
    /// # Errors
    /// All fatal: `NO_OUTPUT` when the task did not succeed, `OUTPUT_ELSEWHERE` when its output is so large that it is kept
    /// at [`output_ref`](Self::output_ref), and `BAD_OUTPUT` when it is not a `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T> {
        match (&self.output, &self.output_ref) {
            (Some(json), _) => serde_json::from_str(json)
                .map_err(|error| Error::fatal("BAD_OUTPUT", format!("the output of `{}` is not what the code reads it as: {error}", self.key))),
            (None, Some(place)) => Err(Error::fatal("OUTPUT_ELSEWHERE", format!("the output of `{}` is too large to be handed over: {place}", self.key))),
            (None, None) => {
                let why = self.error.as_ref().map_or_else(String::new, |fault| format!(": {}: {}", fault.code, fault.message));
                Err(Error::fatal("NO_OUTPUT", format!("`{}` has no output ({:?}{why})", self.key, self.status)))
            }
        }
    }
}

impl From<types::TaskResult> for TaskResult {
    fn from(raw: types::TaskResult) -> Self {
        Self {
            task_id: raw.task_id,
            key: raw.key,
            status: raw.status.into(),
            error: raw.error.map(|fault| Fault { code: fault.code, message: fault.message }),
            output_ref: raw.output_ref,
            output: raw.output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_unknown_sibling_is_named_beside_the_known_ones() {
        let task = testing::task(()).with_upstream(testing::success("prices", &1)).with_upstream(testing::success("news", &2));
        assert_eq!(task.upstream("news").and_then(TaskResult::output::<u32>), Ok(2));
        let error = task.upstream("weather").expect_err("nothing of that name");
        assert_eq!(error.to_string(), "NO_UPSTREAM: this task does not depend on `weather`; it depends on: prices, news");
    }

    #[test]
    fn a_failed_task_has_no_output_but_a_reason() {
        let error = testing::failure("news", "NO_DATA", "nothing found").output::<u32>().expect_err("it failed");
        assert_eq!(error.to_string(), "NO_OUTPUT: `news` has no output (Failed: NO_DATA: nothing found)");
    }

    #[test]
    fn what_was_carried_is_typed() {
        let task = testing::task(()).with_carried(&[1, 2]);
        assert_eq!(task.carried::<Vec<u32>>(), Ok(Some(vec![1, 2])));
        assert_eq!(task.carried::<String>().map_err(|error| error.code().to_owned()), Err("BAD_CARRIED".to_owned()));
        assert_eq!(testing::task(()).carried::<String>(), Ok(None));
    }
}
