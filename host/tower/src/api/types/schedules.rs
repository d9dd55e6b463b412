//! Schedules in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::control::KeptOrder;
use tower_domain::definition::DefinitionSpec;
use tower_domain::id::{ControlEventId, TaskId, TraceId};
use tower_domain::name::Name;
use tower_domain::schedule::Schedule;
use utoipa::ToSchema;

use super::{ControlAction, ScheduleState, ScheduleType};

/// Where the schedule of a definition stands.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleBody {
    #[schema(value_type = String)]
    pub(crate) definition_id: Name,
    pub(crate) state: ScheduleState,
    /// The next instant; null: there is none, it is held, or the definition is switched off.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_at: Option<Timestamp>,
    /// The latest instant that fired.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_at: Option<Timestamp>,
    /// The trace that it began last.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) last_trace_id: Option<TraceId>,
    /// The trace whose end the next instant waits for (overlap QUEUE).
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) waiting_trace_id: Option<TraceId>,
    /// Instants that began a trace, since the schedule was put.
    pub(crate) fired: u64,
    /// Instants that no host was there to fire.
    pub(crate) missed: u64,
    /// Instants that were left out for a trace that still ran.
    pub(crate) skipped: u64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: Timestamp,
}

impl From<Schedule> for ScheduleBody {
    fn from(row: Schedule) -> Self {
        Self {
            definition_id: row.definition_id,
            state: row.state.into(),
            next_at: row.next_at,
            last_at: row.last_at,
            last_trace_id: row.last_trace_id,
            waiting_trace_id: row.waiting_trace_id,
            fired: row.fired,
            missed: row.missed,
            skipped: row.skipped,
            updated_at: row.updated_at,
        }
    }
}

/// An instant in UTC, and as clocks in the schedule's zone show it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Firing {
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// RFC 3339 with the zone's offset.
    #[schema(example = "2026-03-29T03:00:00+02:00")]
    pub(crate) local: String,
}

/// When something fires next.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct Firings {
    /// The schedule in words.
    #[schema(example = "at 08:30 on Monday to Friday, time of Europe/Berlin")]
    pub(crate) words: String,
    pub(crate) timezone: String,
    /// In order; fewer than were asked for: there are no more.
    pub(crate) items: Vec<Firing>,
}

/// A schedule that is not saved.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreviewSchedule {
    /// Default: CRON.
    #[serde(default = "cron")]
    pub(crate) schedule_type: ScheduleType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) run_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "30 8 * * MON-FRI")]
    pub(crate) cron_expr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31536000)]
    pub(crate) interval_sec: Option<u32>,
    /// Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "Europe/Berlin")]
    pub(crate) timezone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) starts_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ends_at: Option<Timestamp>,
    /// Firings after this; default: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) from: Option<Timestamp>,
    /// How many.
    #[serde(default = "ten")]
    #[schema(minimum = 1, maximum = 100)]
    pub(crate) n: u32,
}

fn cron() -> ScheduleType {
    ScheduleType::Cron
}
fn ten() -> u32 {
    10
}

impl PreviewSchedule {
    /// A definition with this schedule.
    pub(crate) fn spec(&self, mut spec: DefinitionSpec) -> DefinitionSpec {
        spec.schedule_type = self.schedule_type.into();
        spec.run_at = self.run_at;
        spec.cron_expr.clone_from(&self.cron_expr);
        spec.interval_sec = self.interval_sec;
        spec.timezone = self.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
        (spec.starts_at, spec.ends_at) = (self.starts_at, self.ends_at);
        spec
    }
}

/// Somebody's order: to a trace, or about the schedule of a definition.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct KeptOrderBody {
    #[schema(value_type = String, format = "ulid")]
    pub(crate) id: ControlEventId,
    /// Null: it was about a schedule.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) trace_id: Option<TraceId>,
    /// The root of the subtree; null: the whole trace.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) task_id: Option<TaskId>,
    /// Null: it was to a trace.
    #[schema(value_type = Option<String>)]
    pub(crate) definition_id: Option<Name>,
    pub(crate) action: ControlAction,
    pub(crate) triggered_by: String,
    pub(crate) reason: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
}

impl From<KeptOrder> for KeptOrderBody {
    fn from(order: KeptOrder) -> Self {
        let KeptOrder { id, trace_id, task_id, definition_id, action, triggered_by, reason, created_at } = order;
        Self { id, trace_id, task_id, definition_id, action: action.into(), triggered_by, reason, created_at }
    }
}
