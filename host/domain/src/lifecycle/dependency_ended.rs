//! A sibling that the task depends on has ended.

use super::{Refusal, Stage, TaskState, Transition};
use crate::clock::Timestamp;
use crate::task::RunOn;

/// One or several dependencies have ended.
#[derive(Debug, Clone, Copy)]
pub struct DependencyEnded {
    /// How many.
    pub ended: u32,
    /// Whether one of them did not succeed.
    pub failed: bool,
    /// The instant.
    pub now: Timestamp,
}

impl DependencyEnded {
    /// Releases the task, skips it, or counts down.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        match state.stage {
            Stage::WaitingDeps => {
                let left = TaskState { open_deps: state.open_deps.saturating_sub(self.ended), ..state.clone() };
                if self.failed && state.run_on == RunOn::Success {
                    Ok(left.skip())
                } else if left.open_deps == 0 {
                    Ok(left.ready(self.now))
                } else {
                    Ok(left.to(Stage::WaitingDeps, None))
                }
            }
            // Skipped by an earlier dependency, or cancelled: the rest of them no longer matter.
            Stage::Ended(_) => Err(Refusal::AlreadyEnded),
            Stage::Scheduled | Stage::Backoff | Stage::Paused | Stage::Queued | Stage::Claimed | Stage::WaitingChildren => Err(Refusal::WrongStage),
        }
    }
}
