//! A claim is given back.

use super::{Refusal, TaskState, Transition};

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
        Ok(state.give_back())
    }
}
