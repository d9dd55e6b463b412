//! Events: what happened, append-only.

use crate::clock::Timestamp;
use crate::id::{TaskId, TraceId};
use crate::json::Json;
use crate::task::{ActorType, Status};
use crate::word_enum;

word_enum! {
    /// What happened. The first five may also come from outside.
    pub enum EventType {
        /// A claim began to run the task's code.
        Started = "STARTED",
        /// It said how far it has come.
        Progress = "PROGRESS",
        /// It ended well.
        Completed = "COMPLETED",
        /// It ended badly.
        Failed = "FAILED",
        /// It ended by order.
        Cancelled = "CANCELLED",
        /// It can be claimed.
        Queued = "QUEUED",
        /// It split off children.
        Split = "SPLIT",
        /// It waits for siblings, or for its time.
        Waiting = "WAITING",
        /// It will be tried again.
        Retrying = "RETRYING",
        /// What it needed did not come.
        Skipped = "SKIPPED",
        /// It is held.
        Paused = "PAUSED",
        /// It is held no longer.
        Resumed = "RESUMED",
        /// A line of its log.
        Log = "LOG",
        /// A piece of its output before the end.
        PartialOutput = "PARTIAL_OUTPUT",
    }
}

impl EventType {
    /// Whether an outside caller may send it.
    pub fn may_come_from_outside(self) -> bool {
        matches!(self, Self::Started | Self::Progress | Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskEvent {
    /// The sender's own id; the host's own events have none, and are known by trace and `seq`.
    pub event_id: Option<String>,
    /// Place in the trace's history, from 1, gapless.
    pub seq: u64,
    /// Whose.
    pub trace_id: TraceId,
    /// Which task's.
    pub task_id: TaskId,
    /// That task's parent.
    pub parent_id: Option<TaskId>,
    /// The part that the task plays.
    pub actor_type: ActorType,
    /// What happened.
    pub event_type: EventType,
    /// The status before, if it changed.
    pub from: Option<Status>,
    /// The status after, if the event is a transition.
    pub to: Option<Status>,
    /// More about it: an object.
    pub payload: Option<Json>,
    /// When.
    pub at: Timestamp,
}

/// Longest event id from outside, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 128;
