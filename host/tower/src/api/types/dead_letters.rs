//! Dead letters in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::name::Name;
use tower_store::read;
use utoipa::ToSchema;

use super::{ErrorBody, List, TaskBody};

/// Dead letters, or what they have in common where that was asked for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum DeadLetters {
    /// With `group_by`: the largest group first, all on one page.
    Groups(List<DeadLetterGroup>),
    /// Without: newest first.
    Tasks(List<TaskBody>),
}

/// Dead letters that have something in common.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct DeadLetterGroup {
    /// The error code, or the definition's id.
    pub(crate) group: String,
    /// How many; the newest 10 000 are counted.
    pub(crate) dead_letters: u64,
    /// Of how many traces.
    pub(crate) traces: u64,
    /// The newest of them.
    #[schema(value_type = String, format = "ulid")]
    pub(crate) newest_task_id: TaskId,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) newest_at: Timestamp,
    pub(crate) newest_message: String,
}

impl From<read::DeadLetterGroup> for DeadLetterGroup {
    fn from(group: read::DeadLetterGroup) -> Self {
        let read::DeadLetterGroup { name, dead_letters, traces, newest, newest_at, newest_message } = group;
        Self { group: name, dead_letters, traces, newest_task_id: newest, newest_at, newest_message }
    }
}

/// What dead letters are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupBy {
    /// The code that they failed with.
    Error,
    /// Their definition.
    Definition,
}

impl From<GroupBy> for read::GroupBy {
    fn from(by: GroupBy) -> Self {
        match by {
            GroupBy::Error => Self::Error,
            GroupBy::Definition => Self::Definition,
        }
    }
}

/// Dead letters to run again: those named, or those that fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetryDeadLetters {
    /// 1 to 100 of them. Traces that several belong to are retried once.
    #[schema(value_type = Vec<String>, max_items = 100)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) task_ids: Vec<TaskId>,
    /// Instead of `task_ids`: the newest of those that fit and whose trace has not been retried since, at most 1 000 in one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<DeadLetterFilter>,
    /// With one of `task_ids`: its trace runs again from that task, with these laid over its params key by key, as with `POST /traces/{id}/rerun`.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) params: Option<Json>,
    /// Only say which traces would be retried.
    pub(crate) dry_run: bool,
    /// For people, and for the audit.
    pub(crate) reason: String,
}

/// Which dead letters. What is left out fits any.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DeadLetterFilter {
    /// Of this definition.
    #[schema(value_type = Option<String>)]
    pub(crate) definition_id: Option<Name>,
    /// That failed with this code.
    pub(crate) error_code: Option<String>,
    /// That failed at or after.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) since: Option<Timestamp>,
}

impl From<DeadLetterFilter> for read::DeadLetterFilter {
    fn from(filter: DeadLetterFilter) -> Self {
        let DeadLetterFilter { definition_id, error_code, since } = filter;
        Self { open: true, definition_id, error_code, since }
    }
}

/// What came of retrying dead letters.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct RetriedDeadLetters {
    /// A trace each.
    pub(crate) items: Vec<RetriedTrace>,
    /// Always null: one request is answered whole.
    pub(crate) next_cursor: Option<String>,
    /// How many dead letters were looked at.
    pub(crate) dead_letters: u32,
    /// More fit than one request takes: send it again for the next ones.
    pub(crate) more: bool,
}

/// What came of retrying the trace of a dead letter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct RetriedTrace {
    /// The trace that was, or is, to be retried.
    #[schema(value_type = String, format = "ulid")]
    pub(crate) rerun_of: TraceId,
    /// The new trace; null: a dry run, or see `error`.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) trace_id: Option<TraceId>,
    /// The dead letters that it was named by.
    #[schema(value_type = Vec<String>)]
    pub(crate) task_ids: Vec<TaskId>,
    pub(crate) error: Option<ErrorBody>,
}
