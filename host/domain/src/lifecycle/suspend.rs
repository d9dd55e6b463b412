//! A running step has stopped early because it was paused.

use super::{Refusal, TaskState, Transition};

/// The claim's step stopped early, to be run again from where it was.
#[derive(Debug, Clone, Copy)]
pub struct Suspend {
    /// Of the claim.
    pub fence: u64,
}

impl Suspend {
    /// Holds the task, or queues it again if it was resumed meanwhile. No attempt is used up.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        state.held(self.fence)?;
        Ok(state.give_back())
    }
}
