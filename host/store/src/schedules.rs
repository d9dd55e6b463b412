//! Schedules: which are due, and where they stand. They are moved by commands of a batch ([`crate::work::Fire`]).

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlAction;
use tower_domain::control::KeptOrder;
use tower_domain::id::{ControlEventId, TraceId};
use tower_domain::name::Name;
use tower_domain::schedule::{Schedule, ScheduleState};

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

    /// By definition.
    async fn list(&self, filter: &ScheduleFilter, page: &PageRequest<Name>) -> Result<Page<Schedule, Name>, StoreError>;

    /// Orders, newest first.
    async fn orders(&self, filter: &OrderFilter, page: &PageRequest<ControlEventId>) -> Result<Page<KeptOrder, ControlEventId>, StoreError>;
}
