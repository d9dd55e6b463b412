//! A step, as the code that works on it sees it.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::{Client, Error};
use crate::wire::{Child, Handed, Level, Page, SignalBody, Split, Step, Summary, TaskResult};

/// What the outside wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Nothing special.
    GoOn,
    /// The step may end early with [`Outcome::Paused`], to be run again from there.
    Pause,
    /// The step is to end soon, with [`StepError::Cancelled`].
    Cancel(String),
}

impl From<SignalBody> for Signal {
    fn from(body: SignalBody) -> Self {
        match body.signal.as_str() {
            "PAUSE" => Self::Pause,
            "CANCEL" => Self::Cancel(body.reason.unwrap_or_default()),
            _ => Self::GoOn,
        }
    }
}

/// How a step ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With this output; after a split, it is carried to the fold.
    Done(Value),
    /// The same, and a LOOP ends with this round.
    Last(Value),
    /// Early, because it was asked to pause: the run that goes on is handed this.
    Paused(Value),
}

impl Outcome {
    /// Done, with anything that is JSON.
    pub fn done(output: &impl Serialize) -> Result<Self, StepError> {
        Ok(Self::Done(serde_json::to_value(output)?))
    }
}

/// How a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// May succeed when it is tried again.
    #[error("{code}: {message}")]
    Retryable {
        /// An upper-case word of your own.
        code: String,
        /// For people.
        message: String,
    },
    /// Will not succeed however often it is tried.
    #[error("{code}: {message}")]
    Fatal {
        /// An upper-case word of your own.
        code: String,
        /// For people.
        message: String,
    },
    /// Stopped because it was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// Given back unharmed: it runs again elsewhere, and no retry is used up.
    #[error("given back")]
    Released,
    /// A call to the tower did not work.
    #[error(transparent)]
    Tower(#[from] Error),
    /// The params are not what the step expects, or the output is no JSON.
    #[error("not the JSON that was expected: {0}")]
    Json(#[from] serde_json::Error),
}

impl StepError {
    /// May succeed when it is tried again.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Retryable { code: code.into(), message: message.into() }
    }

    /// Will not succeed however often it is tried.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Fatal { code: code.into(), message: message.into() }
    }
}

/// A step, and its four powers.
#[derive(Debug, Clone)]
pub struct Task {
    client: Client,
    handed: Arc<Handed>,
    signal: watch::Receiver<Signal>,
}

impl Task {
    pub(crate) fn new(client: Client, handed: Arc<Handed>, signal: watch::Receiver<Signal>) -> Self {
        Self { client, handed, signal }
    }

    fn step(&self) -> &Step {
        &self.handed.step
    }

    fn url(&self, call: &str) -> String {
        format!("{}/{call}", self.handed.attempt.url)
    }

    /// What it works on, as a type.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        serde_json::from_value(self.step().params.clone()).map_err(|error| StepError::fatal("BAD_PARAMS", error.to_string()))
    }

    /// The task; the same for every attempt.
    pub fn id(&self) -> &str {
        &self.step().task_id
    }

    /// Its trace.
    pub fn trace_id(&self) -> &str {
        &self.step().trace_id
    }

    /// What it runs.
    pub fn definition(&self) -> &str {
        &self.step().definition
    }

    /// Its name among its siblings.
    pub fn key(&self) -> &str {
        &self.step().key
    }

    /// `AGENT`, `EXECUTION`, `GROUP_AGG` or `SINGLE_AGG`.
    pub fn actor_type(&self) -> &str {
        &self.step().actor_type
    }

    /// The definition's `role`.
    pub fn role(&self) -> &str {
        &self.step().role
    }

    /// Whether the children have ended and their results are to be folded; only of definitions that say `folds`.
    pub fn is_fold(&self) -> bool {
        self.step().leg == "AGGREGATE"
    }

    /// Results of the siblings that it named.
    pub fn upstream(&self) -> &[TaskResult] {
        &self.step().upstream
    }

    /// How many results there are to fold.
    pub fn summary(&self) -> Option<Summary> {
        self.step().summary
    }

    /// What the step before left.
    pub fn carried(&self) -> Option<&Value> {
        self.step().carried.as_ref()
    }

    /// From 1.
    pub fn attempt(&self) -> u32 {
        self.step().attempt
    }

    /// Attempts that may still follow.
    pub fn retries_left(&self) -> u32 {
        self.step().retries_left
    }

    /// The round of a LOOP, from 0.
    pub fn round_index(&self) -> u32 {
        self.step().round_index
    }

    /// Whether a split can succeed at all.
    pub fn may_split(&self) -> bool {
        self.step().may_split
    }

    /// When the attempt is stopped, in milliseconds since the Unix epoch.
    pub fn deadline_ms(&self) -> i64 {
        self.step().deadline_ms
    }

    /// How long it may take, in milliseconds.
    pub fn timeout_ms(&self) -> u64 {
        self.step().timeout_ms
    }

    /// The same for every attempt: for services that must not act twice.
    pub fn idempotency_key(&self) -> &str {
        &self.step().idempotency_key
    }

    /// Splits the task into children, all or none; they begin with the step's good end. Answers their ids.
    pub async fn split(&self, children: &[Child]) -> Result<Vec<String>, Error> {
        let answer = self.client.tell(&self.url("split"), &self.handed.attempt.token, &json!({ "children": children })).await?;
        Ok(serde_json::from_str::<Split>(&answer)?.task_ids)
    }

    /// Says how far it has come, 0 to 100. Of no consequence if it gets lost.
    pub async fn progress(&self, percent: u8, message: &str) {
        self.report(&json!({ "event_type": "PROGRESS", "percent": percent, "message": message })).await;
    }

    /// Writes a line into the task's log. Of no consequence if it gets lost.
    pub async fn log(&self, level: Level, message: &str) {
        self.report(&json!({ "event_type": "LOG", "level": level, "message": message })).await;
    }

    /// Shows a piece of the output to those who watch.
    pub async fn partial_output(&self, value: &Value) {
        self.report(&json!({ "event_type": "PARTIAL_OUTPUT", "value": value })).await;
    }

    async fn report(&self, report: &Value) {
        if let Err(error) = self.client.tell(&self.url("events"), &self.handed.attempt.token, report).await {
            tracing::debug!(%error, "a report got lost");
        }
    }

    /// What the outside wants, as heard last. Costs nothing.
    pub fn signal(&self) -> Signal {
        self.signal.borrow().clone()
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.signal.borrow(), Signal::Cancel(_))
    }

    /// Ends when the outside wants something.
    pub async fn signalled(&self) -> Signal {
        let mut signal = self.signal.clone();
        loop {
            let heard = signal.borrow_and_update().clone();
            if heard != Signal::GoOn {
                return heard;
            }
            if signal.changed().await.is_err() {
                // Nobody listens any more: the step is being dropped.
                std::future::pending::<()>().await;
            }
        }
    }

    /// All results that there are to fold, in the order in which the tasks were split off.
    pub async fn results(&self) -> Result<Vec<TaskResult>, Error> {
        let (mut results, mut cursor) = (Vec::new(), String::new());
        loop {
            let page: Page = self.client.ask(&self.url(&format!("results?limit=1000{cursor}")), &self.handed.attempt.token).await?;
            results.extend(page.items);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(results),
            }
        }
    }
}
