//! Events and log lines in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_engine::orders::{EventVerdict, PostedEvent};
use utoipa::ToSchema;

use super::{ActorType, EventType, Leg, Phase, Status};

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = TaskEvent)]
pub(crate) struct EventBody {
    /// The sender's id; for the host's own events `<trace>-<seq>`.
    pub(crate) event_id: String,
    /// Place in the trace's history, from 1, gapless.
    pub(crate) seq: u64,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) trace_id: TraceId,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) task_id: TaskId,
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) parent_id: Option<TaskId>,
    pub(crate) actor_type: ActorType,
    pub(crate) event_type: EventType,
    /// The task's status before.
    pub(crate) from: Option<Status>,
    /// The task's status after.
    pub(crate) to: Option<Status>,
    /// The task's phase after, where the event tells.
    pub(crate) phase: Option<Phase>,
    /// More about it. PROGRESS has `percent` and `message`, LOG `stream`, `level`, `message`, `fields`.
    #[schema(value_type = Option<Object>)]
    pub(crate) payload: Option<Json>,
    pub(crate) timestamp_ms: i64,
}

impl From<TaskEvent> for EventBody {
    fn from(event: TaskEvent) -> Self {
        let TaskEvent { event_id, seq, trace_id, task_id, parent_id, actor_type, event_type, from, to, payload, at } = event;
        let event_type = event_type.into();
        let to: Option<Status> = to.map(Into::into);
        Self {
            event_id: event_id.unwrap_or_else(|| format!("{trace_id}-{seq}")),
            seq,
            trace_id,
            task_id,
            parent_id,
            actor_type: actor_type.into(),
            event_type,
            from: from.map(Into::into),
            to,
            phase: to.and_then(|_| phase_after(event_type, payload.as_ref())),
            payload,
            timestamp_ms: at.as_millis(),
        }
    }
}

/// What the host's own payloads tell of the phase.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    leg: Option<Leg>,
    run_after: Option<Timestamp>,
}

fn phase_after(event_type: EventType, payload: Option<&Json>) -> Option<Phase> {
    let told = || payload.and_then(|payload| payload.read::<Told>().ok()).unwrap_or_default();
    match event_type {
        EventType::Queued | EventType::Resumed => Some(Phase::Queued),
        EventType::Started if told().leg == Some(Leg::Aggregate) => Some(Phase::Aggregating),
        EventType::Started => Some(Phase::Executing),
        EventType::Split => Some(Phase::WaitingChildren),
        EventType::Waiting if told().run_after.is_some() => Some(Phase::Scheduled),
        EventType::Waiting => Some(Phase::WaitingDeps),
        EventType::Retrying => Some(Phase::Backoff),
        EventType::Paused => Some(Phase::Paused),
        EventType::Completed | EventType::Cancelled | EventType::Skipped => Some(Phase::Done),
        // A failure may be a dead letter or not: the task says.
        EventType::Failed | EventType::Progress | EventType::Log | EventType::PartialOutput => None,
    }
}

impl EventBody {
    /// What it is called in an event stream.
    pub(crate) fn stream_name(&self) -> &'static str {
        match self.event_type {
            EventType::Progress => "progress",
            EventType::Log => "log",
            EventType::PartialOutput => "partial",
            EventType::Started
            | EventType::Completed
            | EventType::Failed
            | EventType::Cancelled
            | EventType::Queued
            | EventType::Split
            | EventType::Waiting
            | EventType::Retrying
            | EventType::Skipped
            | EventType::Paused
            | EventType::Resumed => "task",
        }
    }
}

/// A line of a task's log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct LogBody {
    pub(crate) seq: u64,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) task_id: TaskId,
    /// `LOG` (the step's own log), `STDOUT` or `STDERR`.
    pub(crate) stream: String,
    /// `DEBUG`, `INFO`, `WARN` or `ERROR`.
    pub(crate) level: String,
    pub(crate) message: String,
    #[schema(value_type = Option<Object>)]
    pub(crate) fields: Option<Json>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
}

impl From<TaskEvent> for LogBody {
    fn from(event: TaskEvent) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Line {
            stream: String,
            level: String,
            message: String,
            fields: Option<Json>,
        }
        let Line { stream, level, message, fields } = event.payload.as_ref().and_then(|payload| payload.read().ok()).unwrap_or_default();
        Self { seq: event.seq, task_id: event.task_id, stream, level, message, fields, at: event.at }
    }
}

/// One event from outside, or an array of at most 1000.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body, which is read as text: serde's untagged enums lose the digits of numbers")]
pub(crate) enum OneOrMany {
    One(Box<PostEvent>),
    Many(Vec<PostEvent>),
}

/// Something that an outside caller saw happen.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PostEvent {
    /// The sender's id of it, up to 128 bytes: the same id twice changes nothing.
    #[schema(max_length = 128)]
    pub(crate) event_id: String,
    /// Checked against the task's.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) trace_id: Option<TraceId>,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) task_id: TaskId,
    /// Taken and not used: the task knows it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) parent_id: Option<TaskId>,
    /// Taken and not used: the task knows it.
    #[serde(default)]
    pub(crate) actor_type: Option<ActorType>,
    /// `STARTED`, `PROGRESS`, `COMPLETED`, `FAILED` or `CANCELLED`.
    pub(crate) event_type: EventType,
    /// For PROGRESS `percent` (0–100) and `message`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) payload: Option<Json>,
    /// The sender's clock. The host's own rules.
    #[serde(default)]
    pub(crate) timestamp_ms: Option<i64>,
}

impl From<PostEvent> for PostedEvent {
    fn from(event: PostEvent) -> Self {
        let PostEvent { event_id, trace_id, task_id, event_type, payload, .. } = event;
        Self { event_id, trace_id, task_id, event_type: event_type.into(), payload }
    }
}

/// What became of a posted event.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct VerdictBody {
    pub(crate) event_id: String,
    pub(crate) verdict: VerdictWord,
    /// For STALE: how the task ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Status>,
    /// For REJECTED: why, as a stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// For REJECTED: why, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// What became of a posted event, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum VerdictWord {
    /// It was kept.
    Accepted,
    /// It had been kept before; nothing changed.
    Duplicate,
    /// The task has ended; it was not kept.
    Stale,
    /// It was not kept.
    Rejected,
}

impl VerdictBody {
    /// The verdict on this event.
    pub(crate) fn of(event_id: String, verdict: EventVerdict) -> Self {
        let (verdict, status, code, message) = match verdict {
            EventVerdict::Accepted => (VerdictWord::Accepted, None, None, None),
            EventVerdict::Duplicate => (VerdictWord::Duplicate, None, None, None),
            EventVerdict::Stale { status } => (VerdictWord::Stale, Some(status.into()), None, None),
            EventVerdict::Rejected { code, message } => (VerdictWord::Rejected, None, Some(code.to_owned()), Some(message)),
        };
        Self { event_id, verdict, status, code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_is_told_by_fields_and_not_by_words() {
        let phase = |event_type, payload: &str| phase_after(event_type, Some(&Json::trusted(payload)));
        assert_eq!(phase(EventType::Started, r#"{"attempt":2,"leg":"AGGREGATE"}"#), Some(Phase::Aggregating));
        assert_eq!(phase(EventType::Started, r#"{"attempt":2,"leg":"RUN","message":"\"AGGREGATE\""}"#), Some(Phase::Executing));
        assert_eq!(phase(EventType::Waiting, r#"{"run_after":"2026-01-31T08:00:00Z"}"#), Some(Phase::Scheduled));
        assert_eq!(phase(EventType::Waiting, r#"{"open_deps":1,"ref":"run_after"}"#), Some(Phase::WaitingDeps));
        assert_eq!(phase_after(EventType::Started, None), Some(Phase::Executing));
    }
}
