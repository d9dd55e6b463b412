//! Traces in bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlEvent;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::name::Name;
use tower_domain::trace::{Counts, Trace};
use tower_engine::orders::{ControlOutcome, Triggered};
use utoipa::ToSchema;

use super::{ControlAction, ErrorBody, Status, TriggerType, Window, output_forms};

/// A trace to begin.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartTrace {
    /// The definition to run. `definition_id` and `def_id` are other names of this field.
    #[serde(alias = "definition_id", alias = "def_id")]
    #[schema(value_type = String, example = "financial-analysis", pattern = "^[a-z0-9][a-z0-9._-]{0,127}$")]
    pub(crate) definition: Name,
    /// Laid over the definition's `default_params`, key by key.
    #[serde(default = "Json::empty_object")]
    #[schema(value_type = Object)]
    pub(crate) params: Json,
    /// Instead of the definition's; 10 is the most urgent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10)]
    pub(crate) priority: Option<u8>,
    /// Not before. Absent: at once.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) run_at: Option<Timestamp>,
    /// At what hours the root may run, instead of the definition's. `mode` is another name of this field.
    #[serde(default, alias = "mode")]
    pub(crate) window: Option<Window>,
    /// Whose it is. Absent: the definition's owner's.
    #[serde(default)]
    pub(crate) user_id: Option<String>,
    /// For filters.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// The session that it is part of; its owner is the trace's.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) session_id: Option<SessionId>,
    /// `MANUAL` for a person, `API` (the default) for a program.
    #[serde(default = "by_api")]
    pub(crate) trigger_type: TriggerType,
}

/// A trace to begin, of the definition in the path.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TriggerOptions {
    /// Laid over the definition's `default_params`, key by key.
    #[serde(default = "Json::empty_object")]
    #[schema(value_type = Object)]
    pub(crate) params: Json,
    /// Instead of the definition's; 10 is the most urgent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10)]
    pub(crate) priority: Option<u8>,
    /// Not before. Absent: at once.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) run_at: Option<Timestamp>,
    /// At what hours the root may run, instead of the definition's. `mode` is another name of this field.
    #[serde(default, alias = "mode")]
    pub(crate) window: Option<Window>,
    /// Whose it is. Absent: the definition's owner's.
    #[serde(default)]
    pub(crate) user_id: Option<String>,
    /// For filters.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// The session that it is part of; its owner is the trace's.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) session_id: Option<SessionId>,
    /// `MANUAL` for a person, `API` (the default) for a program.
    #[serde(default = "by_api")]
    pub(crate) trigger_type: TriggerType,
}

fn by_api() -> TriggerType {
    TriggerType::Api
}

impl Default for TriggerOptions {
    fn default() -> Self {
        Self {
            params: Json::empty_object(),
            priority: None,
            run_at: None,
            window: None,
            user_id: None,
            labels: BTreeMap::new(),
            session_id: None,
            trigger_type: by_api(),
        }
    }
}

impl StartTrace {
    /// The same, for the definition in the path.
    pub(crate) fn of(definition: Name, options: TriggerOptions) -> Self {
        let TriggerOptions { params, priority, run_at, window, user_id, labels, session_id, trigger_type } = options;
        Self { definition, params, priority, run_at, window, user_id, labels, session_id, trigger_type }
    }
}

/// A trace that was begun.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct TraceStarted {
    #[schema(value_type = String, format = "ulid")]
    pub(crate) trace_id: TraceId,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) root_task_id: TaskId,
    pub(crate) status: Status,
    pub(crate) links: TraceLinks,
}

impl TraceStarted {
    /// Begun, and in this status by now.
    pub(crate) fn of(triggered: Triggered, status: Status) -> Self {
        Self { trace_id: triggered.trace_id, root_task_id: triggered.root_task_id, status, links: TraceLinks::of(triggered.trace_id) }
    }
}

/// Where more about a trace is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct TraceLinks {
    /// The trace itself.
    #[serde(rename = "self")]
    pub(crate) itself: String,
    /// Its tasks.
    pub(crate) tasks: String,
    /// Its events; live with `Accept: text/event-stream`.
    pub(crate) events: String,
}

impl TraceLinks {
    fn of(id: TraceId) -> Self {
        let itself = format!("/api/v1/traces/{id}");
        Self { tasks: format!("{itself}/tasks"), events: format!("{itself}/events"), itself }
    }
}

/// How many tasks stand in which status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct CountsBody {
    pub(crate) total: u64,
    pub(crate) pending: u64,
    pub(crate) running: u64,
    pub(crate) success: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) skipped: u64,
}

impl From<Counts> for CountsBody {
    fn from(counts: Counts) -> Self {
        let Counts { pending, running, success, failed, cancelled, skipped } = counts;
        Self { total: counts.total(), pending, running, success, failed, cancelled, skipped }
    }
}

/// One run of a definition. Status, output and error are those of its root task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Trace)]
pub(crate) struct TraceBody {
    #[schema(value_type = String, format = "ulid")]
    pub(crate) trace_id: TraceId,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) root_task_id: TaskId,
    #[schema(value_type = String)]
    pub(crate) definition_id: Name,
    /// The version that it began with, and keeps.
    pub(crate) definition_version: u32,
    pub(crate) status: Status,
    /// A cancel of the whole is under way.
    pub(crate) cancelling: bool,
    /// It is held: what runs may go on, and nothing begins.
    pub(crate) paused: bool,
    /// It succeeded although some of its tasks did not.
    pub(crate) partial: bool,
    /// Tasks that ended, in percent of those that there are so far.
    pub(crate) progress: u8,
    pub(crate) counts: CountsBody,
    pub(crate) user_id: String,
    pub(crate) trigger_type: TriggerType,
    pub(crate) triggered_by: String,
    pub(crate) idempotency_key: Option<String>,
    /// The trace that this one retries.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) rerun_of: Option<TraceId>,
    /// The instant of its schedule that it was begun for.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) cron_trigger_time: Option<Timestamp>,
    /// The session that it is part of.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) session_id: Option<SessionId>,
    pub(crate) labels: BTreeMap<String, String>,
    /// With the definition's `default_params` beneath.
    #[schema(value_type = Object)]
    pub(crate) params: Json,
    /// The root's output, up to 64 KiB.
    #[schema(value_type = Option<Value>)]
    pub(crate) output: Option<Json>,
    /// Where the root's output is, if it is larger.
    pub(crate) output_ref: Option<String>,
    pub(crate) error: Option<ErrorBody>,
    /// The `seq` of its latest event.
    pub(crate) last_seq: u64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) links: TraceLinks,
}

impl From<Trace> for TraceBody {
    fn from(trace: Trace) -> Self {
        let partial = trace.is_partial();
        let ended = trace.counts.total() - trace.counts.open();
        let (output, output_ref) = output_forms(trace.output);
        Self {
            trace_id: trace.trace_id,
            root_task_id: trace.root_task_id,
            definition_id: trace.definition_id,
            definition_version: trace.definition_version,
            status: trace.status.into(),
            cancelling: trace.cancelling,
            paused: trace.paused,
            partial,
            progress: u8::try_from(ended * 100 / trace.counts.total().max(1)).unwrap_or(100),
            counts: trace.counts.into(),
            user_id: trace.user_id,
            trigger_type: trace.trigger_type.into(),
            triggered_by: trace.triggered_by,
            idempotency_key: trace.idempotency_key,
            rerun_of: trace.rerun_of,
            cron_trigger_time: trace.cron_trigger_time,
            session_id: trace.session_id,
            labels: trace.labels,
            params: trace.params,
            output,
            output_ref,
            error: trace.error.map(Into::into),
            last_seq: trace.last_seq,
            created_at: trace.created_at,
            started_at: trace.started_at,
            finished_at: trace.finished_at,
            links: TraceLinks::of(trace.trace_id),
        }
    }
}

/// Why something is ordered.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// For people, and for the audit.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub(crate) reason: String,
}

/// Where an ended trace runs again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RerunOptions {
    /// The task that runs again from its beginning, with everything that follows from it. Absent: the root, which is everything.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) from: Option<TaskId>,
    /// Laid over that task's params, key by key.
    #[serde(default = "Json::empty_object")]
    #[schema(value_type = Object)]
    pub(crate) params: Json,
    /// For people, and for the audit.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub(crate) reason: String,
}

impl Default for RerunOptions {
    fn default() -> Self {
        Self { from: None, params: Json::empty_object(), reason: String::new() }
    }
}

/// What came of a cancel.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct CancelBody {
    pub(crate) outcome: CancelWord,
    /// Tasks that ended at once, and running ones that were told.
    pub(crate) affected: u64,
    /// Tasks that ended at once.
    pub(crate) ended: u64,
    /// Running tasks that were told; they have the grace time to end tidily.
    pub(crate) running: u64,
}

/// What came of a cancel, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum CancelWord {
    /// It was ordered.
    Ordered,
    /// It had been ordered before.
    AlreadyCancelling,
    /// There was nothing left to cancel.
    AlreadyEnded,
}

impl From<ControlOutcome> for CancelBody {
    fn from(outcome: ControlOutcome) -> Self {
        let (outcome, ended, running) = match outcome {
            ControlOutcome::Ordered { done, running } => (CancelWord::Ordered, done, running),
            ControlOutcome::AlreadyCancelling => (CancelWord::AlreadyCancelling, 0, 0),
            ControlOutcome::AlreadyEnded | ControlOutcome::NothingToDo => (CancelWord::AlreadyEnded, 0, 0),
        };
        Self { outcome, affected: ended + running, ended, running }
    }
}

/// What came of a pause or a resume.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct HoldBody {
    pub(crate) outcome: HoldWord,
    /// Tasks that were held, or set going, at once, and running ones that were told.
    pub(crate) affected: u64,
    /// Tasks that were held, or set going, at once.
    pub(crate) changed: u64,
    /// Running tasks that were told; they may go on to their end.
    pub(crate) running: u64,
}

/// What came of a pause or a resume, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum HoldWord {
    /// It was ordered.
    Ordered,
    /// It was paused already, or was not paused.
    NothingToDo,
    /// It is being cancelled.
    AlreadyCancelling,
    /// It has ended.
    AlreadyEnded,
}

impl From<ControlOutcome> for HoldBody {
    fn from(outcome: ControlOutcome) -> Self {
        let (outcome, changed, running) = match outcome {
            ControlOutcome::Ordered { done, running } => (HoldWord::Ordered, done, running),
            ControlOutcome::NothingToDo => (HoldWord::NothingToDo, 0, 0),
            ControlOutcome::AlreadyCancelling => (HoldWord::AlreadyCancelling, 0, 0),
            ControlOutcome::AlreadyEnded => (HoldWord::AlreadyEnded, 0, 0),
        };
        Self { outcome, affected: changed + running, changed, running }
    }
}

/// Somebody's order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = ControlEvent)]
pub(crate) struct ControlEventBody {
    #[schema(value_type = String, format = "ulid")]
    pub(crate) id: tower_domain::id::ControlEventId,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) trace_id: TraceId,
    /// The root of the subtree; null: the whole trace.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) task_id: Option<TaskId>,
    pub(crate) action: ControlAction,
    pub(crate) triggered_by: String,
    pub(crate) reason: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
}

impl From<ControlEvent> for ControlEventBody {
    fn from(order: ControlEvent) -> Self {
        let ControlEvent { id, trace_id, task_id, action, triggered_by, reason, created_at } = order;
        Self { id, trace_id, task_id, action: action.into(), triggered_by, reason, created_at }
    }
}
