//! A step ended well.

use super::{End, Refusal, Stage, TaskState, Transition};
use crate::aggregation::ChildCounts;
use crate::control::Control;
use crate::event::EventType;

/// The claim's step ended well.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// Of the claim.
    pub fence: u64,
    /// Children that it split off.
    pub children: u32,
}

impl Finish {
    /// Ends the task, or has it wait for its children. A cancelled one is cancelled, and its children never come to be.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        state.held(self.fence)?;
        if state.control == Control::Cancel {
            return Ok(state.end_cancelled());
        }
        if self.children == 0 {
            return Ok(state.end(End::Success { cached: false }, None));
        }
        let children = ChildCounts { split: state.children.split + self.children, ..state.children };
        // The next leg has attempts of its own.
        let next = TaskState { children, attempt: 0, crashes: 0, ..state.clone() };
        Ok(next.to(Stage::WaitingChildren, Some(EventType::Split)))
    }
}
