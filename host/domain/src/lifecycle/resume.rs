//! Somebody orders the task to go on.

use super::{Refusal, Stage, TaskState, Transition};
use crate::control::Control;
use crate::event::EventType;

/// The task is to go on.
#[derive(Debug, Clone, Copy)]
pub struct Resume;

impl Resume {
    /// Queues what was held; takes the mark from the rest.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        let free = TaskState { control: Control::Run, ..state.clone() };
        match (state.stage, state.control) {
            (Stage::Ended(_), _) => Err(Refusal::AlreadyEnded),
            (_, Control::Cancel) => Err(Refusal::AlreadyCancelling),
            (_, Control::Run) => Err(Refusal::NotPaused),
            (Stage::Paused, Control::Pause) => Ok(free.to(Stage::Queued, Some(EventType::Resumed))),
            (stage, Control::Pause) => Ok(free.to(stage, None)),
        }
    }
}
