//! Tasks: the nodes of a trace's tree.

use serde::{Deserialize, Serialize};

use crate::aggregation::ChildCounts;
use crate::clock::Timestamp;
use crate::code_ref::Lane;
use crate::codes;
use crate::id::{TaskId, TraceId};
use crate::json::Json;
use crate::limit::Gate;
use crate::name::{Key, Name};
use crate::word_enum;

word_enum! {
    /// The part that a task plays in the tree.
    pub enum ActorType {
        /// Works, and may split.
        Agent = "AGENT",
        /// Works; never splits.
        Execution = "EXECUTION",
        /// Folds the results of its siblings.
        GroupAgg = "GROUP_AGG",
        /// Post-processes the result of one sibling.
        SingleAgg = "SINGLE_AGG",
    }
}

impl ActorType {
    /// Whether it folds siblings.
    pub fn is_aggregator(self) -> bool {
        matches!(self, Self::GroupAgg | Self::SingleAgg)
    }
}

word_enum! {
    /// What the outside sees of a task's state.
    pub enum Status {
        /// Not begun, or to begin again.
        Pending = "PENDING",
        /// Begun.
        Running = "RUNNING",
        /// Ended well.
        Success = "SUCCESS",
        /// Ended badly.
        Failed = "FAILED",
        /// Ended by order.
        Cancelled = "CANCELLED",
        /// Never begun, because what it needed did not come.
        Skipped = "SKIPPED",
    }
}

impl Status {
    /// Whether it is final.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Success | Self::Failed | Self::Cancelled | Self::Skipped => true,
        }
    }
}

word_enum! {
    /// The finer state.
    pub enum Phase {
        /// Waits for its time.
        Scheduled = "SCHEDULED",
        /// Waits for siblings.
        WaitingDeps = "WAITING_DEPS",
        /// Waits before a retry.
        Backoff = "BACKOFF",
        /// Held by order.
        Paused = "PAUSED",
        /// Can be claimed.
        Queued = "QUEUED",
        /// Its step runs.
        Executing = "EXECUTING",
        /// Its children run.
        WaitingChildren = "WAITING_CHILDREN",
        /// Its `aggregate` runs.
        Aggregating = "AGGREGATING",
        /// Ended.
        Done = "DONE",
        /// Ended with a result that was there before.
        Cached = "CACHED",
        /// Ended badly, and listed for people to look at.
        DeadLetter = "DEAD_LETTER",
    }
}

word_enum! {
    /// What its dependencies must have come to before a task runs.
    pub enum RunOn {
        /// All succeeded.
        Success = "SUCCESS",
        /// All ended.
        Finished = "FINISHED",
    }
}

word_enum! {
    /// Which of a module's exports a claim runs.
    pub enum Leg {
        /// `step.run`.
        Run = "RUN",
        /// `aggregate.aggregate`.
        Aggregate = "AGGREGATE",
    }
}

/// Largest output that is kept with its task; above it, in the artifact store.
pub const INLINE_OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Why a task did not succeed, as kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    /// Stable word: one of the host's, or the guest's own.
    pub code: String,
    /// For people; at most 2 kB, without control characters.
    pub message: String,
}

impl TaskError {
    /// Longest message that is kept, in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 2_000;

    /// Cleans both texts: what cannot stand in a log line is escaped, what is too long is cut.
    pub fn new(code: &str, message: &str) -> Self {
        let code: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).take(64).collect();
        let code = if code.is_empty() { codes::GUEST_ERROR.name.to_owned() } else { code };
        Self { code, message: clean(message, Self::MESSAGE_BYTES_MAX) }
    }
}

/// Text from a guest, made fit for logs and terminals: control characters but newline and tab are escaped; cut at `bytes_max`.
pub fn clean(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        // C1 controls steer terminals as well; bidirectional overrides make text read as what it is not.
        let hidden = (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
        let bytes = if hidden { c.escape_unicode().map(char::len_utf8).sum() } else { c.len_utf8() };
        if out.len() + bytes > bytes_max.saturating_sub('…'.len_utf8()) {
            out.push('…');
            break;
        }
        if hidden { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// Where an output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// With the task.
    Inline(Json),
    /// In the artifact store.
    Ref(String),
}

/// One result that another task reads: a dependency's or a child's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskResult {
    /// Whose.
    pub task_id: TaskId,
    /// What it is called among its siblings.
    pub key: Key,
    /// How it ended.
    pub status: Status,
    /// What it left, if it succeeded.
    pub output: Option<Output>,
    /// Why it did not.
    pub error: Option<TaskError>,
}

/// What a task waits for that could be claimed but for a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitWait {
    /// Which limit.
    pub gate: Gate,
    /// When it lets the next one in, if time alone tells.
    pub opens_at: Option<Timestamp>,
}

/// A task as readers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// The trace that it belongs to.
    pub trace_id: TraceId,
    /// The task that split it off; none: the root.
    pub parent_id: Option<TaskId>,
    /// Its definition.
    pub job_id: Name,
    /// The version of it that it runs.
    pub definition_version: u32,
    /// Its name among its siblings.
    pub key: Key,
    /// The part that it plays.
    pub actor_type: ActorType,
    /// The definition's role.
    pub role: String,
    /// How many agents stand above it.
    pub layer: u32,
    /// How many tasks stand above it.
    pub depth: u32,
    /// Whether it is an agent that may not split any more.
    pub is_leaf_agent: bool,
    /// The round of a LOOP.
    pub round_index: u32,
    /// What the outside sees.
    pub status: Status,
    /// The finer state.
    pub phase: Phase,
    /// Whether a cancel is under way.
    pub cancelling: bool,
    /// Whether it is held: what runs may go on, and nothing begins.
    pub paused: bool,
    /// Siblings that it depends on; an aggregator of all its siblings names none.
    pub depends_on: Vec<Key>,
    /// What they must have come to.
    pub run_on: RunOn,
    /// Dependencies that have not ended yet.
    pub open_deps: u32,
    /// Children split off in this round; so for the two that follow.
    pub split_count: u32,
    /// Children that ended, in whatever way.
    pub completed_children: u32,
    /// Children that succeeded.
    pub succeeded_children: u32,
    /// 1–10.
    pub priority: u8,
    /// Attempts begun at the current leg.
    pub attempt: u32,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// Wall time of an attempt in seconds.
    pub timeout_sec: u32,
    /// Not to be claimed before.
    pub run_after: Option<Timestamp>,
    /// Whether it is the operator's night that it waits for.
    pub waits_for_night: bool,
    /// Where it waits to be claimed, by what runs its code.
    pub lane: Lane,
    /// The limit that it waits for.
    pub limit: Option<LimitWait>,
    /// Which host runs it.
    pub lease_owner: Option<String>,
    /// Until when that host may.
    pub lease_expires_at: Option<Timestamp>,
    /// Raised by every claim.
    pub fence: u64,
    /// What it works on.
    pub input_params: Json,
    /// What it left.
    pub output: Option<Output>,
    /// 0–100.
    pub progress: u8,
    /// The last line for people.
    pub progress_message: String,
    /// Why it did not succeed.
    pub error: Option<TaskError>,
    /// When its first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// `/<trace>/<task>/…/<task>/`, itself included.
    pub node_path: String,
}

impl Task {
    /// The attempt that this row alone tells of: the first and only one, which ended well. No other has less than a row of its own.
    pub fn plain_attempt(&self) -> Option<Attempt> {
        match (self.status, self.phase, self.fence, self.started_at, self.finished_at) {
            (Status::Success, Phase::Done, 1, Some(started_at), Some(finished_at)) => Some(Attempt {
                fence: 1,
                attempt: 1,
                leg: Leg::Run,
                host: String::new(),
                started_at,
                finished_at,
                result: Status::Success.as_str().to_owned(),
                error: None,
            }),
            _ => None,
        }
    }
}

/// A round of a LOOP that ended well.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// Which, from 0.
    pub round_index: u32,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Of the tasks that it split off.
    pub children: ChildCounts,
    /// What it left.
    pub output: Option<Output>,
}

/// One finished attempt that did not end the task well, or the one that ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The claim's fence.
    pub fence: u64,
    /// Which attempt at which leg.
    pub attempt: u32,
    /// What was run.
    pub leg: Leg,
    /// Where.
    pub host: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// How: a word such as `SUCCESS`, `RETRYABLE`, `FATAL`, `CANCELLED`, `RELEASED`, `LEASE_EXPIRED`, `SPLIT`.
    pub result: String,
    /// Why it did not end well.
    pub error: Option<TaskError>,
}
