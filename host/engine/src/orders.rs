//! What the outside may ask of an engine, and the answers.

use std::collections::BTreeMap;

use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::definition::FieldError;
use tower_domain::event::EventType;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::name::Name;
use tower_domain::schedule::Window;
use tower_domain::step::CodeProblem;
use tower_domain::task::Status;
use tower_domain::trace::TriggerType;
use tower_store::StoreError;

/// A trace to begin.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// What to run.
    pub definition_id: Name,
    /// Laid over the definition's default params, key by key.
    pub params: Json,
    /// Instead of the definition's, 1–10.
    pub priority: Option<u8>,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// At what hours the root may run, instead of the definition's.
    pub window: Option<Window>,
    /// Whose it is; the definition's owner if absent.
    pub user_id: Option<String>,
    /// For filters.
    pub labels: BTreeMap<String, String>,
    /// What sets it off.
    pub trigger_type: TriggerType,
    /// Who.
    pub triggered_by: String,
    /// Against doubles.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The session that it is part of.
    pub session_id: Option<SessionId>,
}

/// A caller's key, with the SHA-256 of what was asked under it.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    /// 1 to 255 bytes.
    pub key: String,
    /// Of the request's body.
    pub fingerprint: [u8; 32],
}

/// A trace that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Triggered {
    /// Its id.
    pub trace_id: TraceId,
    /// Its root's id.
    pub root_task_id: TaskId,
    /// Whether an earlier request with the same key had begun it.
    pub replayed: bool,
}

/// Why a trace was not begun.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// There is no such definition.
    #[error("there is no definition `{0}`")]
    UnknownDefinition(Name),
    /// It is switched off.
    #[error("definition `{0}` is not active")]
    Inactive(Name),
    /// The params do not fit the definition's schema.
    #[error("the params do not fit the schema of the definition")]
    BadParams(Vec<ParamError>),
    /// A field is out of bounds.
    #[error("a field is out of bounds")]
    BadField(FieldError),
    /// There is no such session.
    #[error("there is no session {0}")]
    UnknownSession(SessionId),
    /// The session takes no more traces.
    #[error("session {0} is closed")]
    SessionClosed(SessionId),
    /// The key was used for something else.
    #[error("the idempotency key was used before for another request, which began trace {trace_id}")]
    KeyTaken {
        /// That trace.
        trace_id: TraceId,
    },
    /// The host goes down.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// A place in the params that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamError {
    /// JSON pointer inside the params.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

/// A failure of the store that several callers are told of.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreFailure(#[source] pub std::sync::Arc<StoreError>);

impl From<StoreError> for StoreFailure {
    fn from(error: StoreError) -> Self {
        Self(std::sync::Arc::new(error))
    }
}

/// What is wanted of a trace or a subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// That it ends.
    Cancel,
    /// That nothing of it begins.
    Pause,
    /// That it goes on.
    Resume,
}

/// An order to a trace or a subtree.
#[derive(Debug, Clone)]
pub struct ControlRequest {
    /// What is wanted.
    pub control: Control,
    /// Which trace.
    pub trace_id: TraceId,
    /// The root of the subtree; none: the whole trace.
    pub task_id: Option<TaskId>,
    /// By whom.
    pub triggered_by: String,
    /// Why.
    pub reason: String,
}

/// What came of a [`ControlRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlOutcome {
    /// It was ordered.
    Ordered {
        /// Tasks that ended, were held, or were set going at once.
        done: u64,
        /// Running tasks that were told.
        running: u64,
    },
    /// It was as the order wants it: held already, or not held.
    NothingToDo,
    /// A cancel is under way.
    AlreadyCancelling,
    /// It has ended.
    AlreadyEnded,
}

/// An ended trace to run again, as a new one that takes over what succeeded.
#[derive(Debug, Clone)]
pub struct RerunRequest {
    /// Which.
    pub trace_id: TraceId,
    /// A task that runs again from its beginning whatever it came to, with everything that follows from it; none: only what did not
    /// succeed runs again.
    pub from: Option<TaskId>,
    /// Laid over that task's params, key by key.
    pub params: Json,
    /// By whom.
    pub triggered_by: String,
    /// Why.
    pub reason: String,
    /// Against doubles.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl RerunRequest {
    /// Of what did not succeed, and nothing else.
    pub fn retry(trace_id: TraceId, triggered_by: &str, reason: &str, idempotency_key: Option<IdempotencyKey>) -> Self {
        let (triggered_by, reason) = (triggered_by.to_owned(), reason.to_owned());
        Self { trace_id, from: None, params: Json::empty_object(), triggered_by, reason, idempotency_key }
    }
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// No such trace or task.
    #[error("there is no such trace or task")]
    NotFound,
    /// Only ended traces can be retried.
    #[error("trace {0} has not ended: cancel it first, or wait")]
    NotEnded(TraceId),
    /// The key was used for something else.
    #[error("the idempotency key was used before for another request, which began trace {trace_id}")]
    KeyTaken {
        /// That trace.
        trace_id: TraceId,
    },
    /// The task cannot be where a rerun begins.
    #[error("task {0} cannot run again by itself: a task above it begins anew, or a later round has taken its place; begin with one above it")]
    NotReached(TaskId),
    /// The params do not fit the definition's schema.
    #[error("the params do not fit the schema of the definition")]
    BadParams(Vec<ParamError>),
    /// The session of the trace takes no more of them.
    #[error("the session of trace {0} is closed: begin a new trace, in another session")]
    SessionClosed(TraceId),
    /// There is nothing to run again.
    #[error("every task of trace {0} succeeded: there is nothing to retry")]
    NothingToRetry(TraceId),
    /// The host goes down.
    #[error("the host is shutting down")]
    ShuttingDown,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Something that an outside caller saw happen.
#[derive(Debug, Clone)]
pub struct PostedEvent {
    /// The sender's id of it.
    pub event_id: String,
    /// Checked against the task's trace.
    pub trace_id: Option<TraceId>,
    /// Which task.
    pub task_id: TaskId,
    /// What happened.
    pub event_type: EventType,
    /// More about it: an object. For PROGRESS `percent` (0–100) and `message`.
    pub payload: Option<Json>,
}

/// What became of a posted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventVerdict {
    /// It was kept.
    Accepted,
    /// It had been kept before; nothing changed.
    Duplicate,
    /// The task has ended; it was not kept.
    Stale {
        /// How.
        status: Status,
    },
    /// It was not kept, for this reason.
    Rejected {
        /// Stable word.
        code: &'static str,
        /// For people.
        message: String,
    },
}

/// Why a definition was not saved.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// Fields are out of bounds.
    #[error("the definition has fields that are out of bounds")]
    Fields(Vec<FieldError>),
    /// Its `params_schema` is no JSON Schema.
    #[error("params_schema is no valid JSON Schema: {0}")]
    Schema(String),
    /// Its default params do not fit its own schema.
    #[error("default_params do not fit params_schema")]
    Defaults(Vec<ParamError>),
    /// Its code is missing or asks for more than it is granted.
    #[error(transparent)]
    Code(#[from] CodeProblem),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// What a host does in a lane other than that of its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneLoad {
    /// Which.
    pub lane: Lane,
    /// Steps that it holds.
    pub running: u32,
    /// How many it can hold just now.
    pub slots: u32,
}

/// What the engine is doing right now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Steps that run.
    pub running: u32,
    /// Steps that may run at the same time.
    pub slots: u32,
    /// Tasks that are claimed and wait for a slot.
    pub claimed_ahead: u32,
    /// Whether work is being taken.
    pub accepting: bool,
}
