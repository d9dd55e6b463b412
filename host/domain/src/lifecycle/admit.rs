//! A task is made.

use super::{Refusal, Stage, TaskState, Transition};
use crate::clock::Timestamp;
use crate::event::EventType;
use crate::task::RunOn;

/// Puts a new task where it begins.
#[derive(Debug, Clone, Copy)]
pub struct Admit {
    /// Dependencies that have not ended.
    pub open_deps: u32,
    /// Whether one of those that ended did so without success.
    pub dep_failed: bool,
    /// The instant.
    pub now: Timestamp,
}

impl Admit {
    /// Skipped, waiting for siblings, waiting for its time, or queued.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        let state = TaskState { open_deps: self.open_deps, ..state.clone() };
        if self.dep_failed && state.run_on == RunOn::Success {
            return Ok(super::dependency_ended::skip(&state));
        }
        if self.open_deps > 0 {
            return Ok(state.to(Stage::WaitingDeps, Some(EventType::Waiting)));
        }
        Ok(ready(&state, self.now))
    }
}

/// Nothing but time stands between the task and a claim.
pub(super) fn ready(state: &TaskState, now: Timestamp) -> Transition {
    match state.run_after {
        Some(at) if at > now => state.to(Stage::Scheduled, Some(EventType::Waiting)),
        Some(_) | None => TaskState { run_after: None, ..state.clone() }.to(Stage::Queued, Some(EventType::Queued)),
    }
}
