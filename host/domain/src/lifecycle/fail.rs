//! A step ended badly.

use super::{End, Refusal, Stage, TaskState, Transition};
use crate::clock::Timestamp;
use crate::control::Control;
use crate::event::EventType;
use crate::step::{FailureClass, StepFailure};

/// The claim's step ended badly.
#[derive(Debug, Clone, Copy)]
pub struct Fail<'a> {
    /// Of the claim.
    pub fence: u64,
    /// How.
    pub failure: &'a StepFailure,
    /// When to try again, if it is.
    pub retry_at: Timestamp,
}

impl Fail<'_> {
    /// Backs off while retries are left; then, or at once if it is fatal, fails.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        state.held(self.fence)?;
        if state.control == Control::Cancel {
            return Ok(state.end_cancelled());
        }
        let error = Some(self.failure.error.clone());
        match self.failure.class {
            FailureClass::Fatal => Ok(state.end(End::Failed { dead_letter: false }, error)),
            FailureClass::Retryable if state.attempt > state.max_retries => Ok(state.end(End::Failed { dead_letter: true }, error)),
            FailureClass::Retryable => {
                let next = TaskState { run_after: Some(self.retry_at), ..state.clone() };
                Ok(Transition { error, ..next.to(Stage::Backoff, Some(EventType::Retrying)) })
            }
        }
    }
}
