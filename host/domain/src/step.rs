//! The one interface between the tower and the code that it runs.
//!
//! The engine hands an [`Executor`] a [`Step`] and a [`StepHost`]; the executor runs the code and answers with a [`StepEnd`].
//! Wasm components, containers and outside workers differ only in what stands behind [`Executor`]; the four powers of a step (read
//! its task, split, report, hear orders) are [`Step`] and [`StepHost`] for all of them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::code_ref::{CodeRef, Lane};
use crate::definition::{Definition, DefinitionSpec, bounds};
use crate::id::{SessionId, TaskId, TraceId};
use crate::json::Json;
use crate::name::Key;
use crate::session::{StepSession, WorkspaceAccess};
use crate::split::{ChildRequest, SplitRefused};
use crate::task::{ActorType, Leg, Output, TaskError, TaskResult};
use crate::word_enum;

/// One attempt at one task.
#[derive(Debug, Clone)]
pub struct Step {
    /// The task.
    pub task_id: TaskId,
    /// Its trace.
    pub trace_id: TraceId,
    /// Its name among its siblings.
    pub key: Key,
    /// What it runs.
    pub definition: Arc<Definition>,
    /// The part that it plays.
    pub actor_type: ActorType,
    /// What to run of the code. An aggregator's first leg is [`Leg::Run`]; an executor whose code can fold runs that instead.
    pub leg: Leg,
    /// What it works on.
    pub params: Json,
    /// Results of the dependencies that it named.
    pub upstream: Vec<TaskResult>,
    /// What there is to fold, in [`Leg::Aggregate`] and for aggregators; read through [`StepHost::results`].
    pub summary: Option<Summary>,
    /// What the step before left for this one.
    pub carried: Option<Json>,
    /// From 1.
    pub attempt: u32,
    /// Retries that may still follow.
    pub retries_left: u32,
    /// The round of a LOOP.
    pub round_index: u32,
    /// Agents above.
    pub layer: u32,
    /// Tasks above.
    pub depth: u32,
    /// Whether a split can succeed.
    pub may_split: bool,
    /// Raised by every claim.
    pub fence: u64,
    /// Wall time that the attempt may take, from when the code begins.
    pub timeout: Duration,
    /// The same instant for people and guests, by the host's clock.
    pub deadline: Timestamp,
    /// The session of its trace, as far as the definition is granted it.
    pub session: Option<StepSession>,
}

impl Step {
    /// The same text for every attempt at this leg of the task.
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}:{}", self.task_id, self.round_index, self.leg)
    }
}

/// How many results there are to fold, by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// All of them.
    pub expected: u32,
    /// SUCCESS.
    pub succeeded: u32,
    /// FAILED.
    pub failed: u32,
    /// CANCELLED.
    pub cancelled: u32,
    /// SKIPPED.
    pub skipped: u32,
}

/// A page of results to fold.
#[derive(Debug, Clone, Default)]
pub struct ResultPage {
    /// In the order in which the tasks were split off.
    pub items: Vec<TaskResult>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<TaskId>,
}

/// Most results on a page.
pub const RESULT_PAGE_MAX: u32 = 1_000;

/// What the outside wants of a running step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Nothing special.
    GoOn,
    /// The step may return early, to be run again.
    Pause,
    /// The step is to end soon, for this reason.
    Cancel(Arc<str>),
}

/// Why a step is stopped where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It was cancelled and its grace time is over.
    Cancelled,
    /// The host goes down, or may no longer run it.
    Released,
}

word_enum! {
    /// How much a log line matters.
    pub enum LogLevel {
        /// For whoever wrote the code.
        Debug = "DEBUG",
        /// Ordinary.
        Info = "INFO",
        /// Odd.
        Warn = "WARN",
        /// Wrong.
        Error = "ERROR",
    }
}

word_enum! {
    /// Which way a log line came.
    pub enum LogStream {
        /// `report.log`.
        Log = "LOG",
        /// Standard output.
        Stdout = "STDOUT",
        /// Standard error.
        Stderr = "STDERR",
    }
}

/// Longest line of a log that is kept, in bytes.
pub const LOG_LINE_BYTES_MAX: usize = 64 * 1024;

/// A line of a task's log, cleaned.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// Which way it came.
    pub stream: LogStream,
    /// How much it matters.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// An object with more.
    pub fields: Option<Json>,
}

/// The host could not answer a step just now; not the step's fault.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the host could not answer: {0}")]
pub struct HostTrouble(pub String);

/// What a running step can ask of its host. Cheap calls are synchronous; none of them blocks.
#[async_trait]
pub trait StepHost: Send + Sync {
    /// Stages children. They come to be with the step's good end, in one transaction.
    async fn split(&self, children: Vec<ChildRequest>) -> Result<Result<Vec<TaskId>, SplitRefused>, HostTrouble>;

    /// Notes how far the step has come. Coalesced: only the latest is kept.
    fn progress(&self, percent: u8, message: &str);

    /// Keeps a line, within the definition's bound on log bytes.
    fn log(&self, line: LogLine);

    /// Shows a piece of output to those who watch.
    fn partial_output(&self, value: Json);

    /// What the outside wants. Reads memory only.
    fn signal(&self) -> Signal;

    /// Ends when there is something to hear, at once if there is now. A pause that was `heard` is nothing new: a step that goes on all
    /// the same can still wait. A cancel is.
    async fn signalled(&self, heard: &Signal);

    /// Whether the step must be stopped where it is. Reads memory only.
    fn stop(&self) -> Option<Stop>;

    /// Ends when [`Self::stop`] says so; at once if it does now.
    async fn stopped(&self) -> Stop;

    /// Results to fold, those strictly after a task: of the children in [`Leg::Aggregate`], of the dependencies for an aggregator. `limit` is cut to
    /// 1..=[`RESULT_PAGE_MAX`].
    async fn results(&self, after: Option<TaskId>, limit: u32) -> Result<ResultPage, HostTrouble>;

    /// What the code calls the session from now on. Kept with the step's good end; only where the step has a session.
    fn set_sdk_session_id(&self, id: String);
}

/// Has the workspaces of sessions ready for steps.
#[async_trait]
pub trait WorkspaceProvider: Send + Sync + std::fmt::Debug {
    /// Makes a session's workspace ready, and brings it back where it was archived. An error ends the step.
    async fn open(&self, session: SessionId, access: WorkspaceAccess) -> Result<StepSession, StepFailure>;

    /// Ends when the workspace holds more than it may, with how the step that writes there is to end. It looks from time to time: a step may write
    /// more in between.
    async fn filled(&self, session: &StepSession) -> StepFailure;

    /// A step that had it has ended. An error is how the step ended: it left more than the workspace may hold.
    async fn close(&self, session: &StepSession) -> Result<(), StepFailure>;
}

/// Keeps something running for sessions, such as containers.
#[async_trait]
pub trait SessionKeeper: Send + Sync {
    /// Sessions that it keeps something for.
    fn held(&self) -> Vec<SessionId>;

    /// The session is idle, archived or closed: what is kept for it may go.
    async fn let_go(&self, session: SessionId);
}

/// How a failure is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// May go away by itself.
    Retryable,
    /// Will not.
    Fatal,
}

/// A step that did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFailure {
    /// Whether to try again.
    pub class: FailureClass,
    /// Why.
    pub error: TaskError,
    /// Not sooner than this.
    pub after: Option<Duration>,
}

impl StepFailure {
    /// A failure that may go away by itself.
    pub fn retryable(code: &str, message: impl AsRef<str>) -> Self {
        Self { class: FailureClass::Retryable, error: TaskError::new(code, message.as_ref()), after: None }
    }

    /// A failure that will not.
    pub fn fatal(code: &str, message: impl AsRef<str>) -> Self {
        Self { class: FailureClass::Fatal, error: TaskError::new(code, message.as_ref()), after: None }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum StepEnd {
    /// Well. With children staged, `output` is carried to the aggregation; else it is the task's.
    Finished {
        /// What the step returned.
        output: Json,
        /// Whether a LOOP ends here.
        last: bool,
    },
    /// Early, because it was asked to pause.
    Paused {
        /// For the run that goes on from here.
        carried: Json,
    },
    /// Badly.
    Failed(StepFailure),
    /// Because it was cancelled.
    Cancelled,
    /// Not at all, and through no fault of the task: the claim is given back and no retry is used up.
    Released,
}

/// What is wrong with a definition's code, found before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CodeProblem {
    /// Stable word, such as `MODULE_UNKNOWN` or `CAPABILITY_NOT_GRANTED`.
    pub code: &'static str,
    /// For people, with the remedy.
    pub message: String,
}

/// What became of the end of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is the task's, durably.
    Kept,
    /// The claim was no longer the task's: nothing of it counts.
    Refused,
    /// It is not known: the host goes down.
    Unknown,
}

/// Rings when an executor has room that it did not have before.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// Work of the host's own around steps.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs steps.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Whether this executor is the one for the code.
    fn runs(&self, code: &CodeRef) -> bool;

    /// How many steps it can hold just now, those that it holds included, for each lane that it takes steps from. Nothing is claimed
    /// beyond that. Of [`Lane::Process`] the engine knows by itself.
    fn slots(&self) -> Vec<(Lane, u32)> {
        Vec::new()
    }

    /// Is handed the bell to ring when [`Self::slots`] has grown.
    fn take_bell(&self, _bell: Bell) {}

    /// Looks whether the definition's code is there and fits what it grants.
    async fn check(&self, spec: &DefinitionSpec) -> Result<(), CodeProblem>;

    /// Runs one step to its end. Keeps within [`Step::timeout`] and the definition's resource profile, and ends soon after
    /// [`StepHost::stop`] says so, whatever the code does.
    async fn run(&self, step: Arc<Step>, host: Arc<dyn StepHost>) -> StepEnd;

    /// Has work of the host's done on the threads on which it runs steps of [`Lane::Process`], but in the surroundings of the runtime that hands it
    /// over: what it runs out of that work stays on its thread. Comes back from one that has no such threads.
    fn carry(&self, work: Work) -> Option<Work> {
        Some(work)
    }

    /// Is told what became of the end of a step that it ran, of every lane but [`Lane::Process`].
    fn settled(&self, _task: TaskId, _fence: u64, _settled: Settled) {}
}

/// Why there is no object of outputs by key.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FoldError {
    /// The results could not be read.
    #[error(transparent)]
    Trouble(#[from] HostTrouble),
    /// They do not fit into one output.
    #[error("the children's outputs by key are over {} bytes; export `aggregate` to fold them into less", bounds::JSON_BYTES_MAX)]
    TooLarge,
}

/// The output of a task that split and whose code does not fold: its children's outputs by key. Holds no more than an output may.
pub async fn fold_by_key(host: &dyn StepHost) -> Result<Json, FoldError> {
    let mut outputs = std::collections::BTreeMap::new();
    let mut bytes = 2;
    let mut after = None;
    loop {
        let page = host.results(after, RESULT_PAGE_MAX).await?;
        for result in page.items {
            let output = match result.output {
                Some(Output::Inline(json)) => json,
                Some(Output::Ref(url)) => Json::of(&std::collections::BTreeMap::from([("output_ref", url)])).map_err(|error| HostTrouble(error.to_string()))?,
                None => continue,
            };
            // Two quotes, a colon and a comma; keys need no escapes.
            bytes += output.as_str().len() + result.key.as_str().len() + 4;
            if bytes > bounds::JSON_BYTES_MAX {
                return Err(FoldError::TooLarge);
            }
            outputs.insert(result.key, output);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Json::of(&outputs).map_err(|error| FoldError::Trouble(HostTrouble(error.to_string()))),
        }
    }
}
