//! Somebody orders the task to hold.

use super::{Refusal, Stage, TaskState, Transition};
use crate::control::Control;

/// The task is to hold: what runs may go on, nothing begins.
#[derive(Debug, Clone, Copy)]
pub struct Pause;

impl Pause {
    /// Holds what is queued; marks the rest, which is held once it would be queued.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        let marked = TaskState { control: Control::Pause, ..state.clone() };
        match (state.stage, state.control) {
            (Stage::Ended(_), _) => Err(Refusal::AlreadyEnded),
            (_, Control::Cancel) => Err(Refusal::AlreadyCancelling),
            (_, Control::Pause) => Err(Refusal::AlreadyPaused),
            (Stage::Queued, Control::Run) => Ok(marked.queue()),
            (stage, Control::Run) => Ok(marked.to(stage, None)),
        }
    }
}
