//! A claim is given back.

use super::{Refusal, Stage, TaskState, Transition};
use crate::control::Control;
use crate::event::EventType;

/// The claim is given back unharmed: the host goes down, or has no room.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// Of the claim.
    pub fence: u64,
}

impl Release {
    /// Queues the task again. No retry is used up.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        state.held(self.fence)?;
        Ok(give_back(state))
    }
}

pub(super) fn give_back(state: &TaskState) -> Transition {
    if state.control == Control::Cancel {
        return state.end_cancelled();
    }
    let next = TaskState { attempt: state.attempt.saturating_sub(1), ..state.clone() };
    next.to(Stage::Queued, Some(EventType::Queued))
}
