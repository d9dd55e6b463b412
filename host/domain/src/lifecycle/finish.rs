//! A step ended well.

use super::{End, Refusal, Stage, TaskState, Transition};
use crate::aggregation::ChildCounts;
use crate::clock::Timestamp;
use crate::control::Control;
use crate::event::EventType;

/// The claim's step ended well.
#[derive(Debug, Clone, Copy)]
pub struct Finish {
    /// Of the claim.
    pub fence: u64,
    /// Children that it split off.
    pub children: u32,
    /// The round that follows, if the task is the root of a LOOP that goes on.
    pub next_round: Option<NextRound>,
}

/// A round that follows another.
#[derive(Debug, Clone, Copy)]
pub struct NextRound {
    /// Not before this.
    pub at: Timestamp,
    /// The instant.
    pub now: Timestamp,
}

impl Finish {
    /// Ends the task, or its round, or has it wait for its children. A cancelled one is cancelled, and its children never come to be.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        state.held(self.fence)?;
        if state.control == Control::Cancel {
            return Ok(state.end_cancelled());
        }
        if self.children == 0 {
            return Ok(match self.next_round {
                None => state.end(End::Success { cached: false }, None),
                Some(NextRound { at, now }) => {
                    // Everything as for a new task, but what counts its claims.
                    let fresh = TaskState::new(state.max_retries, state.run_on, Some(at));
                    TaskState { fence: state.fence, control: state.control, hours: state.hours.waiting(false), round: state.round + 1, ..fresh }.ready(now)
                }
            });
        }
        let children = ChildCounts { split: state.children.split + self.children, ..state.children };
        // The next leg has attempts of its own.
        let next = TaskState { children, attempt: 0, crashes: 0, ..state.clone() };
        Ok(next.to(Stage::WaitingChildren, Some(EventType::Split)))
    }
}
