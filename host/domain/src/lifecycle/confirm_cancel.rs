//! A running step has stopped because it was cancelled.

use super::{Refusal, TaskState, Transition};
use crate::control::Control;

/// The claim's step stopped by order.
#[derive(Debug, Clone, Copy)]
pub struct ConfirmCancel {
    /// Of the claim.
    pub fence: u64,
}

impl ConfirmCancel {
    /// Ends the task as cancelled; only if somebody ordered it.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        state.held(self.fence)?;
        match state.control {
            Control::Cancel => Ok(state.end_cancelled()),
            Control::Run | Control::Pause => Err(Refusal::WrongStage),
        }
    }
}
