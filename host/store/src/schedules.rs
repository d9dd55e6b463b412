//! Schedules: which are due, and where they stand. They are moved by commands of a batch ([`crate::work::Fire`]).

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlAction;
use tower_domain::control::KeptOrder;
use tower_domain::definition::Definition;
use tower_domain::id::{ControlEventId, TraceId};
use tower_domain::name::Name;
use tower_domain::schedule::{Plan, Schedule, ScheduleState};

use crate::StoreError;
use crate::read::{Page, PageRequest};

/// What there is to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    /// When the next schedule is due.
    pub next_at: Option<Timestamp>,
    /// Whether one waits for the end of a trace.
    pub waiting: bool,
}

/// Which schedules. By definition.
#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    /// In this state.
    pub state: Option<ScheduleState>,
}

/// Which orders. Newest first.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// To this trace.
    pub trace_id: Option<TraceId>,
    /// About this definition's schedule.
    pub definition_id: Option<Name>,
    /// Of this kind.
    pub action: Option<ControlAction>,
    /// Given at or after.
    pub since: Option<Timestamp>,
}

/// Answers about schedules, and about orders of all kinds.
#[async_trait]
pub trait ScheduleStore: Send + Sync {
    /// Schedules that are due, the earliest first.
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Schedule>, StoreError>;

    /// What there is to wait for.
    async fn ahead(&self) -> Result<Ahead, StoreError>;

    /// Of one definition.
    async fn find(&self, definition: &Name) -> Result<Option<Schedule>, StoreError>;

    /// Of these definitions, those that have one; in no order.
    async fn find_many(&self, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError>;

    /// By definition.
    async fn list(&self, filter: &ScheduleFilter, page: &PageRequest<Name>) -> Result<Page<Schedule, Name>, StoreError>;

    /// Orders, newest first.
    async fn orders(&self, filter: &OrderFilter, page: &PageRequest<ControlEventId>) -> Result<Page<KeptOrder, ControlEventId>, StoreError>;
}

/// What becomes of a definition's schedule (`row`) with a new version of the definition; none: it stays as it is. `last` is the latest
/// instant that fired.
pub(crate) fn followed(
    before: Option<&Definition>,
    new: &Definition,
    plan: &Plan,
    row: Option<Schedule>,
    last: Option<Timestamp>,
    now: Timestamp,
) -> Option<Schedule> {
    let unchanged = before.is_some_and(|before| Plan::of(&before.spec).as_ref() == Some(plan));
    let active_before = before.is_some_and(|before| before.spec.is_active);
    if unchanged && row.is_some() && active_before == new.spec.is_active {
        return None;
    }
    let mut next = match row {
        Some(row) if unchanged => {
            // Switched off or on: what passed meanwhile was not missed.
            let fires = new.spec.is_active && row.state == ScheduleState::Active;
            let next_at = if fires { plan.resumed(&row, now) } else { None };
            let state = if fires && next_at.is_none() { ScheduleState::Completed } else { row.state };
            Schedule { revision: row.revision + 1, state, next_at, waiting_trace_id: None, waited_until: None, updated_at: now, ..row }
        }
        row => {
            let begun = plan.begin(&new.id, new.version, last, now);
            // What was last still runs, perhaps; and whoever read the row before must not write it.
            let revision = row.as_ref().map_or(1, |row| row.revision + 1);
            Schedule { revision, last_trace_id: row.and_then(|row| row.last_trace_id), ..begun }
        }
    };
    if !new.spec.is_active {
        next.next_at = None;
    }
    Some(next)
}
