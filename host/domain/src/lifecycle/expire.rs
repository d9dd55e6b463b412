//! A claim's host is gone.

use super::{End, Refusal, TaskState, Transition};
use crate::codes;
use crate::control::Control;
use crate::task::TaskError;

/// A task that was running at so many deaths of its host is not run again.
pub const CRASHES_MAX: u32 = 3;

/// The host that held the claim died, or lost touch.
#[derive(Debug, Clone, Copy)]
pub struct Expire {
    /// Of the claim.
    pub fence: u64,
    /// Whether the task's code was running when the host died, so that it may be what killed it.
    pub suspect: bool,
}

impl Expire {
    /// Queues the task again, without using up a retry; or makes it a dead letter when it has been there at too many deaths.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        state.held(self.fence)?;
        let state = TaskState { crashes: state.crashes + u32::from(self.suspect), ..state.clone() };
        if state.control != Control::Cancel && state.crashes >= CRASHES_MAX {
            let error = TaskError::new(codes::HOST_CRASHED.name, &format!("its host died {CRASHES_MAX} times while it ran this task"));
            return Ok(state.end(End::Failed { dead_letter: true }, Some(error)));
        }
        Ok(state.give_back())
    }
}
