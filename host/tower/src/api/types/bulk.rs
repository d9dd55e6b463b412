//! Orders to many traces, in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::id::TraceId;
use tower_domain::name::Name;
use tower_engine::orders::ControlOutcome;
use utoipa::ToSchema;

use super::{ErrorBody, Status};
use crate::api::extract::fields;

/// An order to many traces.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkOrder {
    pub(crate) action: BulkAction,
    #[serde(deserialize_with = "fields")]
    pub(crate) filter: BulkFilter,
    /// Only say which traces they are.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// For people, and for the audit.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub(crate) reason: String,
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum BulkAction {
    /// That they end.
    Cancel,
    /// That nothing of them begins.
    Pause,
    /// That they go on.
    Resume,
    /// That what did not succeed runs again, as a new trace for each.
    Retry,
}

impl BulkAction {
    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "CANCEL",
            Self::Pause => "PAUSE",
            Self::Resume => "RESUME",
            Self::Retry => "RETRY",
        }
    }
}

/// Which traces: those that fit all that is said. At least one thing must be.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BulkFilter {
    /// In one of these. Absent: whatever can be ordered so: PENDING and RUNNING; for RETRY, FAILED and CANCELLED.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) status: Vec<Status>,
    /// Of this definition.
    #[schema(value_type = Option<String>)]
    pub(crate) definition_id: Option<Name>,
    /// Of this user.
    pub(crate) user_id: Option<String>,
    /// Made at or after.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
    /// Made before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
}

/// What came of an order to many traces.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct BulkResult {
    /// The traces, newest first.
    pub(crate) items: Vec<BulkItem>,
    /// Always null.
    pub(crate) next_cursor: Option<String>,
    /// There are more of them.
    pub(crate) more: bool,
}

/// What came of it for one trace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct BulkItem {
    #[schema(value_type = String, format = "ulid")]
    pub(crate) trace_id: TraceId,
    pub(crate) outcome: BulkOutcome,
    /// Of RETRY: the trace that runs it again.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) new_trace_id: Option<TraceId>,
    pub(crate) error: Option<ErrorBody>,
}

/// What came of it, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum BulkOutcome {
    /// It would be ordered.
    Found,
    /// It was ordered.
    Done,
    /// It was so already, or has ended meanwhile.
    NothingToDo,
    /// It was refused.
    Failed,
}

impl From<ControlOutcome> for BulkOutcome {
    fn from(outcome: ControlOutcome) -> Self {
        match outcome {
            ControlOutcome::Ordered { .. } => Self::Done,
            ControlOutcome::NothingToDo | ControlOutcome::AlreadyCancelling | ControlOutcome::AlreadyEnded => Self::NothingToDo,
        }
    }
}
