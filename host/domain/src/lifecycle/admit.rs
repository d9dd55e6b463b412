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
            return Ok(state.skip());
        }
        if self.open_deps > 0 {
            return Ok(state.to(Stage::WaitingDeps, Some(EventType::Waiting)));
        }
        Ok(state.ready(self.now))
    }
}
