//! Traces: one run of a definition.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{SessionId, TaskId, TraceId};
use crate::json::Json;
use crate::name::Name;
use crate::task::{Output, Status, TaskError};
use crate::word_enum;

word_enum! {
    /// What set a trace off.
    pub enum TriggerType {
        /// A person, by the command line or the console.
        Manual = "MANUAL",
        /// A program, by the API.
        Api = "API",
        /// A retry of an earlier trace.
        Replay = "REPLAY",
        /// The `run_at` of a ONCE.
        Schedule = "SCHEDULE",
        /// A firing of a CRON.
        Cron = "CRON",
        /// The `run_at` of a LOOP.
        Loop = "LOOP",
    }
}

/// How many tasks of a trace stand in which status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Not begun.
    pub pending: u64,
    /// Begun.
    pub running: u64,
    /// Ended well.
    pub success: u64,
    /// Ended badly.
    pub failed: u64,
    /// Ended by order.
    pub cancelled: u64,
    /// Never begun.
    pub skipped: u64,
}

impl Counts {
    /// The count of one status.
    pub fn of(&mut self, status: Status) -> &mut u64 {
        match status {
            Status::Pending => &mut self.pending,
            Status::Running => &mut self.running,
            Status::Success => &mut self.success,
            Status::Failed => &mut self.failed,
            Status::Cancelled => &mut self.cancelled,
            Status::Skipped => &mut self.skipped,
        }
    }

    /// All tasks.
    pub fn total(&self) -> u64 {
        self.open() + self.success + self.failed + self.cancelled + self.skipped
    }

    /// Tasks that have not ended.
    pub fn open(&self) -> u64 {
        self.pending + self.running
    }
}

/// A trace as readers see it. Status and output are those of its root task.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its id.
    pub trace_id: TraceId,
    /// What it runs.
    pub definition_id: Name,
    /// The version of it.
    pub definition_version: u32,
    /// Whose it is.
    pub user_id: String,
    /// What set it off.
    pub trigger_type: TriggerType,
    /// Who.
    pub triggered_by: String,
    /// The key that the caller gave against doubles.
    pub idempotency_key: Option<String>,
    /// The root's params.
    pub params: Json,
    /// Labels for filters.
    pub labels: BTreeMap<String, String>,
    /// The trace that this one retries.
    pub rerun_of: Option<TraceId>,
    /// The instant of its schedule that it was begun for.
    pub cron_trigger_time: Option<Timestamp>,
    /// The session that it is part of.
    pub session_id: Option<SessionId>,
    /// The root of its tree.
    pub root_task_id: TaskId,
    /// PENDING until the first step begins, RUNNING until the root has ended, then the root's.
    pub status: Status,
    /// Whether a cancel of the whole is under way.
    pub cancelling: bool,
    /// Whether the root is held.
    pub paused: bool,
    /// Tasks by status.
    pub counts: Counts,
    /// The root's output.
    pub output: Option<Output>,
    /// Why the root did not succeed.
    pub error: Option<TaskError>,
    /// The `seq` of its latest event.
    pub last_seq: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its first step began.
    pub started_at: Option<Timestamp>,
    /// When its root ended.
    pub finished_at: Option<Timestamp>,
}

impl Trace {
    /// Whether it succeeded although some of its tasks did not.
    pub fn is_partial(&self) -> bool {
        self.status == Status::Success && self.counts.failed + self.counts.skipped + self.counts.cancelled > 0
    }
}
