//! The time that a task waited for has come.

use super::{Refusal, Stage, TaskState, Transition};

/// Its time has come.
#[derive(Debug, Clone, Copy)]
pub struct ComeDue;

impl ComeDue {
    /// Queues the task, or holds it.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        match state.stage {
            Stage::Scheduled | Stage::Backoff => Ok(state.queue()),
            Stage::Ended(_) => Err(Refusal::AlreadyEnded),
            Stage::WaitingDeps | Stage::Paused | Stage::Queued | Stage::Claimed | Stage::WaitingChildren => Err(Refusal::WrongStage),
        }
    }
}
