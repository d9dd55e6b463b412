//! Orders: what somebody wants of a trace or a subtree, kept for audit.

use crate::clock::Timestamp;
use crate::id::{ControlEventId, TaskId, TraceId};
use crate::name::Name;
use crate::word_enum;

word_enum! {
    /// What was ordered.
    pub enum ControlAction {
        /// Go on.
        Run = "RUN",
        /// Hold.
        Pause = "PAUSE",
        /// End.
        Cancel = "CANCEL",
        /// Run what did not succeed again, as a new trace.
        Retry = "RETRY",
    }
}

word_enum! {
    /// What holds for a task now.
    pub enum Control {
        /// Nothing special.
        Run = "RUN",
        /// It is held: what runs may go on, nothing begins.
        Pause = "PAUSE",
        /// It is cancelled and has yet to end.
        Cancel = "CANCEL",
    }
}

/// An order to a trace or a subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlEvent {
    /// Its id.
    pub id: ControlEventId,
    /// The trace.
    pub trace_id: TraceId,
    /// The root of the subtree; none: the whole trace.
    pub task_id: Option<TaskId>,
    /// What was ordered.
    pub action: ControlAction,
    /// By whom.
    pub triggered_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: Timestamp,
}

/// An order about a definition's schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleOrder {
    /// Its id.
    pub id: ControlEventId,
    /// Whose schedule.
    pub definition_id: Name,
    /// What was ordered.
    pub action: ControlAction,
    /// By whom.
    pub triggered_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: Timestamp,
}

/// An order of either kind, as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOrder {
    /// Its id.
    pub id: ControlEventId,
    /// The trace; none: it was about a schedule.
    pub trace_id: Option<TraceId>,
    /// The root of the subtree.
    pub task_id: Option<TaskId>,
    /// Whose schedule; none: it was about a trace.
    pub definition_id: Option<Name>,
    /// What was ordered.
    pub action: ControlAction,
    /// By whom.
    pub triggered_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: Timestamp,
}
