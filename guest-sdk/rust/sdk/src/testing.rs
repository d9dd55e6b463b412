//! Calling a step in an ordinary `cargo test`, without a host. Not there in a component.
//!
//! ```
//! use command_tower::prelude::*;
//! use command_tower::testing::{self, Tower};
//!
//! fn run(task: Task<Vec<u32>>) -> Result<u32> {
//!     split(task.params.iter().map(|n| Child::new(format!("n{n}"), "square")))?;
//!     report::progress(100, "asked");
//!     Ok(0)
//! }
//!
//! fn fold(_task: Task<Vec<u32>>, results: Results) -> Result<u32> {
//!     results.map(|result| result.output::<u32>()).sum()
//! }
//!
//! let tower = Tower::new();
//! assert_eq!(run(testing::task(vec![2, 3])), Ok(0));
//! assert_eq!(tower.children()[1].key(), "n3");
//!
//! let results = testing::results([testing::success("n2", &4), testing::success("n3", &9)]);
//! assert_eq!(fold(testing::task(vec![2, 3]), results), Ok(13));
//! ```

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::child::Child;
use crate::control::Signal;
use crate::host::{Told, told};
use crate::log::Level;
use crate::results::{Results, Summary};
use crate::task::{Actor, Fault, Status, Task, TaskResult};

/// What the steps that run in this thread tell the tower, and what they hear from it.
#[derive(Debug)]
pub struct Tower(());

/// A line of the task's log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub message: String,
    /// The fields, a JSON object.
    pub fields: Option<Value>,
}

impl Tower {
    /// Forgets what was told before in this thread. Steps hear [`Signal::GoOn`] until told otherwise.
    #[expect(clippy::new_without_default, reason = "it acts on the thread, it does not make a value")]
    pub fn new() -> Self {
        told(|told| *told = Told::default());
        Self(())
    }

    /// From the question number `questions` on (0 is the next), steps hear this; until then they hear to go on.
    pub fn signal_after(&self, questions: usize, signal: Signal) {
        told(|told| told.signal = Some((questions, signal)));
    }

    /// The children that were split off, in order.
    pub fn children(&self) -> Vec<Child> {
        told(|told| told.children.clone())
    }

    /// The progress that was reported, in order.
    pub fn progress(&self) -> Vec<(u8, String)> {
        told(|told| told.progress.clone())
    }

    /// The lines that were logged, in order.
    pub fn log(&self) -> Vec<LogLine> {
        told(|told| told.log.clone())
    }

    /// The pieces of output that were reported, in order.
    pub fn partial_outputs(&self) -> Vec<Value> {
        told(|told| told.partial_outputs.clone())
    }

    /// How long steps would have slept. In a test they do not.
    pub fn slept(&self) -> Duration {
        told(|told| Duration::from_millis(told.slept_ms))
    }
}

/// A task with these params: a root agent at its first attempt, with five minutes left. Its fields can be set.
pub fn task<P>(params: P) -> Task<P> {
    #[expect(clippy::disallowed_methods, reason = "the deadline is looked at by the real clock")]
    let in_five_minutes = std::time::SystemTime::now() + Duration::from_secs(300);
    let deadline = in_five_minutes.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Task {
        params,
        id: "01J00000000000000000000001".to_owned(),
        trace_id: "01J00000000000000000000000".to_owned(),
        definition: "test".to_owned(),
        key: "root".to_owned(),
        actor: Actor::Agent,
        role: String::new(),
        attempt: 1,
        retries_left: 3,
        round_index: 0,
        layer: 0,
        depth: 0,
        may_split: true,
        deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        idempotency_key: "test".to_owned(),
        upstream: Vec::new(),
        carried: None,
    }
}

impl<P> Task<P> {
    /// The same task, with one more sibling that it depends on. Only in tests.
    pub fn with_upstream(mut self, result: TaskResult) -> Self {
        self.upstream.push(result);
        self
    }

    /// The same task, with this left by the step before. Only in tests.
    ///
    /// # Panics
    /// If the value does not become JSON.
    pub fn with_carried(mut self, value: &(impl Serialize + ?Sized)) -> Self {
        self.carried = Some(text(value));
        self
    }
}

/// The result of a task that succeeded.
///
/// # Panics
/// If the output does not become JSON.
pub fn success(key: &str, output: &(impl Serialize + ?Sized)) -> TaskResult {
    TaskResult { output: Some(text(output)), ..ended(key, Status::Success) }
}

/// The result of a task that failed.
pub fn failure(key: &str, code: &str, message: &str) -> TaskResult {
    let error = Some(Fault { code: code.to_owned(), message: message.to_owned() });
    TaskResult { error, ..ended(key, Status::Failed) }
}

/// The result of a task that ended like this, without output or error.
pub fn ended(key: &str, status: Status) -> TaskResult {
    TaskResult { task_id: format!("task-{key}"), key: key.to_owned(), status, error: None, output_ref: None, output: None }
}

/// What an aggregate is given to fold.
pub fn results(results: impl IntoIterator<Item = TaskResult>) -> Results {
    let results: Vec<TaskResult> = results.into_iter().collect();
    let count = |status| u32::try_from(results.iter().filter(|result| result.status == status).count()).unwrap_or(u32::MAX);
    let summary = Summary {
        expected: u32::try_from(results.len()).unwrap_or(u32::MAX),
        succeeded: count(Status::Success),
        failed: count(Status::Failed),
        cancelled: count(Status::Cancelled),
        skipped: count(Status::Skipped),
    };
    Results::given(summary, results)
}

fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("a test's values should become JSON")
}
