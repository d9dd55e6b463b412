//! The time that a task waited for has come.

use super::{Refusal, Stage, TaskState, Transition};
use crate::event::EventType;

/// Its time has come.
#[derive(Debug, Clone, Copy)]
pub struct ComeDue;

impl ComeDue {
    /// Queues the task.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        match state.stage {
            Stage::Scheduled | Stage::Backoff => Ok(TaskState { run_after: None, ..state.clone() }.to(Stage::Queued, Some(EventType::Queued))),
            Stage::Ended(_) => Err(Refusal::AlreadyEnded),
            Stage::WaitingDeps | Stage::Queued | Stage::Claimed | Stage::WaitingChildren => Err(Refusal::WrongStage),
        }
    }
}
