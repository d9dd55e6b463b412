//! Somebody orders the task to end.

use super::{Refusal, Stage, TaskState, Transition};
use crate::control::Control;

/// The task is to end.
#[derive(Debug, Clone, Copy)]
pub struct Cancel;

impl Cancel {
    /// Ends what has not begun; marks what runs or waits for children.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        let marked = TaskState { control: Control::Cancel, ..state.clone() };
        match state.stage {
            Stage::Ended(_) => Err(Refusal::AlreadyEnded),
            Stage::Claimed | Stage::WaitingChildren if state.control == Control::Cancel => Err(Refusal::AlreadyCancelling),
            Stage::Claimed => Ok(marked.to(Stage::Claimed, None)),
            // Its children end first; the last of them ends it.
            Stage::WaitingChildren if !state.children.all_ended() => Ok(marked.to(Stage::WaitingChildren, None)),
            Stage::WaitingChildren | Stage::Scheduled | Stage::WaitingDeps | Stage::Backoff | Stage::Paused | Stage::Queued => Ok(marked.end_cancelled()),
        }
    }
}
