//! A host takes the task.

use super::{Refusal, Stage, TaskState, Transition};
use crate::event::EventType;

/// A host takes it to run its next leg.
#[derive(Debug, Clone, Copy)]
pub struct Claim;

impl Claim {
    /// Raises the fence and begins an attempt.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        match state.stage {
            Stage::Queued => {
                let next = TaskState { fence: state.fence + 1, attempt: state.attempt + 1, ..state.clone() };
                Ok(next.to(Stage::Claimed, Some(EventType::Started)))
            }
            Stage::Ended(_) => Err(Refusal::AlreadyEnded),
            Stage::Scheduled | Stage::WaitingDeps | Stage::Backoff | Stage::Paused | Stage::Claimed | Stage::WaitingChildren => Err(Refusal::WrongStage),
        }
    }
}
