//! What readers ask. Lists page by cursor on indexes; a page never costs more than it holds.

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::limit::{Gate, GateLimit};
use tower_domain::name::{Key, Name};
use tower_domain::split::ExistingChild;
use tower_domain::step::ResultPage;
use tower_domain::task::{ActorType, Attempt, Phase, Round, Status, Task};
use tower_domain::trace::Trace;

use crate::StoreError;

/// Most items on a page.
pub const PAGE_MAX: u32 = 500;

/// Which page.
#[derive(Debug, Clone)]
pub struct PageRequest<C> {
    /// The cursor that came with the page before.
    pub after: Option<C>,
    /// How many items at the most; cut to 1..=[`PAGE_MAX`].
    pub limit: u32,
}

/// A page.
#[derive(Debug, Clone)]
pub struct Page<T, C> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; none: this was the last.
    pub next: Option<C>,
}

/// Which traces. Newest first.
#[derive(Debug, Clone, Default)]
pub struct TraceFilter {
    /// In one of these; empty: any.
    pub status: Vec<Status>,
    /// Of this definition.
    pub definition_id: Option<Name>,
    /// Of this user.
    pub user_id: Option<String>,
    /// Of this session.
    pub session_id: Option<SessionId>,
    /// Made at or after.
    pub since: Option<Timestamp>,
    /// Made before.
    pub until: Option<Timestamp>,
}

/// Which tasks of a trace. In the order in which they were made.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// In one of these; empty: any.
    pub status: Vec<Status>,
    /// In one of these; empty: any.
    pub phase: Vec<Phase>,
    /// At this layer.
    pub layer: Option<u32>,
    /// Children of this task.
    pub parent_id: Option<TaskId>,
    /// Playing this part.
    pub actor_type: Option<ActorType>,
}

/// A lane in which tasks can be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneUse {
    /// Which.
    pub lane: Lane,
    /// How many can be claimed; [`WAITING_MAX`] if it is that or more.
    pub ready: u64,
}

/// Which dead letters. Newest first.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Only those whose trace has not been retried since.
    pub open: bool,
    /// Of this definition.
    pub definition_id: Option<Name>,
    /// That failed with this code.
    pub error_code: Option<String>,
    /// That failed at or after.
    pub since: Option<Timestamp>,
}

/// What dead letters are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// The code that they failed with.
    Error,
    /// Their definition.
    Definition,
}

/// Newest dead letters that are counted; older ones are not looked at.
pub const GROUPED_MAX: u32 = 10_000;

/// Dead letters that have something in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// What: a code, or the id of a definition.
    pub name: String,
    /// How many.
    pub dead_letters: u64,
    /// Of how many traces.
    pub traces: u64,
    /// The newest of them.
    pub newest: TaskId,
    /// When that failed.
    pub newest_at: Timestamp,
    /// And why.
    pub newest_message: String,
}

/// Tasks that wait at one limit are counted up to here.
pub const WAITING_MAX: u32 = 10_000;

/// A limit that somebody has passed or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitUse {
    /// Which.
    pub gate: Gate,
    /// What its definition allows now; a user's limit is the operator's, and not known here.
    pub limit: Option<GateLimit>,
    /// Tasks that have passed it and not ended.
    pub running: u32,
    /// Tasks that wait at it; those that wait at another of theirs first are counted there. At most [`WAITING_MAX`].
    pub waiting: u32,
    /// When it lets the next one in, if time alone tells.
    pub opens_at: Option<Timestamp>,
}

/// What was begun under a caller's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// Of the request.
    pub fingerprint: [u8; 32],
    /// The trace.
    pub trace_id: TraceId,
    /// Its root.
    pub root_task_id: TaskId,
}

/// Answers readers.
#[async_trait]
pub trait Reader: Send + Sync {
    /// One trace.
    async fn trace(&self, id: TraceId) -> Result<Option<Trace>, StoreError>;

    /// Traces, newest first.
    async fn traces(&self, filter: &TraceFilter, page: &PageRequest<TraceId>) -> Result<Page<Trace, TraceId>, StoreError>;

    /// One task.
    async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError>;

    /// Tasks of a trace, oldest first.
    async fn tasks(&self, trace: TraceId, filter: &TaskFilter, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError>;

    /// A task's ended attempts, oldest first; the last 200.
    async fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError>;

    /// Rounds of a LOOP's root that ended well, in order, those after `after`.
    async fn rounds(&self, task: TaskId, page: &PageRequest<u32>) -> Result<Page<Round, u32>, StoreError>;

    /// Events of a trace with a `seq` above `after`, in order.
    async fn events(&self, trace: TraceId, after: u64, limit: u32) -> Result<Vec<TaskEvent>, StoreError>;

    /// LOG events of a trace, or of one of its tasks and everything below it, with a `seq` above `after`, in order.
    async fn logs(&self, trace: TraceId, subtree: Option<TaskId>, after: u64, limit: u32) -> Result<Vec<TaskEvent>, StoreError>;

    /// Results of a task's children, in the order in which they were split off.
    async fn child_results(&self, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError>;

    /// Results of the siblings that a task depends on, likewise.
    async fn dependency_results(&self, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError>;

    /// Keys of the siblings that a task depends on and that have not ended, in the order in which they were split off; the first `limit`. What has
    /// ended is walked over.
    async fn open_dependencies(&self, task: TaskId, limit: u32) -> Result<Vec<Key>, StoreError>;

    /// What earlier steps of a task split off.
    async fn existing_children(&self, task: TaskId) -> Result<Vec<ExistingChild>, StoreError>;

    /// Tasks that are dead letters, newest first. What the filter leaves out is walked over: a page may cost more than it holds.
    async fn dead_letters(&self, filter: &DeadLetterFilter, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError>;

    /// The newest [`GROUPED_MAX`] dead letters in groups, the largest first; at most [`PAGE_MAX`] groups.
    async fn dead_letter_groups(&self, filter: &DeadLetterFilter, by: GroupBy) -> Result<Vec<DeadLetterGroup>, StoreError>;

    /// Limits in use, by name.
    async fn limits(&self, page: &PageRequest<Gate>) -> Result<Page<LimitUse, Gate>, StoreError>;

    /// Lanes in which tasks can be claimed, by name, that of the process first; at most 1 000.
    async fn lanes(&self) -> Result<Vec<LaneUse>, StoreError>;

    /// Orders given to a trace, oldest first; the last 1 000.
    async fn control_events(&self, trace: TraceId) -> Result<Vec<ControlEvent>, StoreError>;

    /// What was begun under a caller's key at or after `not_before`.
    async fn key_use(&self, key: &str, not_before: Timestamp) -> Result<Option<KeyUse>, StoreError>;

    /// Whether the database answers and can be written.
    async fn ping(&self) -> Result<(), StoreError>;
}
