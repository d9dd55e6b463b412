//! A queued task is found at an hour at which it may not run.

use super::{Hours, Refusal, Stage, TaskState, Transition};
use crate::clock::Timestamp;
use crate::event::EventType;

/// The task is to wait for its hours.
#[derive(Debug, Clone, Copy)]
pub struct Defer {
    /// When they begin.
    pub until: Timestamp,
}

impl Defer {
    /// Has it wait; only one that has hours.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        match (state.stage, state.hours) {
            (Stage::Queued, Hours::Night { .. }) => {
                let next = TaskState { run_after: Some(self.until), hours: state.hours.waiting(true), ..state.clone() };
                Ok(next.to(Stage::Scheduled, Some(EventType::Waiting)))
            }
            (Stage::Ended(_), _) => Err(Refusal::AlreadyEnded),
            _ => Err(Refusal::WrongStage),
        }
    }
}
