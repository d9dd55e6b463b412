//! What goes over the wire.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A step as it was handed over: what there is to do, and how to speak about it.
#[derive(Debug, Clone, Deserialize)]
pub struct Handed {
    pub(crate) attempt: Attempt,
    pub(crate) step: Step,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) url: String,
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) lease_ms: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Step {
    pub(crate) task_id: String,
    pub(crate) trace_id: String,
    pub(crate) definition: String,
    pub(crate) key: String,
    pub(crate) actor_type: String,
    pub(crate) role: String,
    pub(crate) leg: String,
    pub(crate) params: Value,
    pub(crate) upstream: Vec<TaskResult>,
    pub(crate) summary: Option<Summary>,
    pub(crate) carried: Option<Value>,
    pub(crate) attempt: u32,
    pub(crate) retries_left: u32,
    pub(crate) round_index: u32,
    pub(crate) may_split: bool,
    pub(crate) deadline_ms: i64,
    pub(crate) timeout_ms: u64,
    pub(crate) idempotency_key: String,
}

/// How many results there are to fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Summary {
    /// All of them.
    pub expected: u32,
    /// Those that succeeded.
    pub succeeded: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that were cancelled.
    pub cancelled: u32,
    /// Those that were skipped.
    pub skipped: u32,
}

/// The result of another task.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TaskResult {
    /// Which task.
    pub task_id: String,
    /// Its name among its siblings.
    pub key: String,
    /// `SUCCESS`, `FAILED`, `CANCELLED` or `SKIPPED`.
    pub status: String,
    /// Its output, if it is small enough to be kept with the task.
    pub output: Option<Value>,
    /// Where a larger output is.
    pub output_ref: Option<String>,
    /// Why it did not succeed.
    pub error: Option<Fault>,
}

/// Why something did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// An upper-case word.
    pub code: String,
    /// For people.
    pub message: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) items: Vec<TaskResult>,
    pub(crate) next_cursor: Option<String>,
}

/// What dependencies must have come to before a child runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunOn {
    /// All succeeded.
    Success,
    /// All ended.
    Finished,
}

/// A child to split off.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Child {
    /// Unique among the children of one task.
    pub key: String,
    /// The definition to run.
    pub definition: String,
    /// Laid over the definition's defaults.
    pub params: Value,
    /// Keys of siblings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// What those must have come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_on: Option<RunOn>,
    /// 1 to 10, instead of the definition's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

impl Child {
    /// A child that waits for nobody.
    pub fn new(key: impl Into<String>, definition: impl Into<String>, params: Value) -> Self {
        Self { key: key.into(), definition: definition.into(), params, depends_on: Vec::new(), run_on: None, priority: None }
    }

    /// Waits for these siblings.
    pub fn after<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.depends_on.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Runs whatever became of the siblings that it waits for.
    pub fn whatever_they_came_to(mut self) -> Self {
        self.run_on = Some(RunOn::Finished);
        self
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Split {
    pub(crate) task_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SignalBody {
    pub(crate) signal: String,
    pub(crate) reason: Option<String>,
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// For whoever wrote the code.
    Debug,
    /// Ordinary.
    Info,
    /// Odd.
    Warn,
    /// Wrong.
    Error,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) detail: String,
}
