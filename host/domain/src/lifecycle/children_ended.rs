//! Children of the task have ended.

use super::{End, Refusal, Stage, TaskState, Transition};
use crate::aggregation::{ChildCounts, Verdict, judge};
use crate::control::Control;
use crate::definition::AggregationPolicy;
use crate::task::Leg;

/// One or several children have ended.
#[derive(Debug, Clone, Copy)]
pub struct ChildrenEnded {
    /// How many.
    pub ended: u32,
    /// How many of them well.
    pub succeeded: u32,
    /// The parent's policy.
    pub policy: AggregationPolicy,
}

impl ChildrenEnded {
    /// Counts; and when none is open any more, has the task fold, fail, or end its cancel.
    pub fn decide(&self, state: &TaskState) -> Result<Transition, Refusal> {
        let counts = ChildCounts { ended: state.children.ended + self.ended, succeeded: state.children.succeeded + self.succeeded, ..state.children };
        let state = TaskState { children: counts, ..state.clone() };
        match state.stage {
            Stage::WaitingChildren if counts.all_ended() && state.control == Control::Cancel => Ok(state.end_cancelled()),
            Stage::WaitingChildren => match judge(self.policy, counts) {
                Verdict::Wait => Ok(state.to(Stage::WaitingChildren, None)),
                Verdict::Aggregate => {
                    let next = TaskState { leg: Leg::Aggregate, ..state };
                    Ok(next.queue())
                }
                Verdict::Fail(error) => Ok(state.end(End::Failed { dead_letter: false }, Some(error))),
            },
            // Children exist only below a task that waits for them.
            Stage::Scheduled | Stage::WaitingDeps | Stage::Backoff | Stage::Paused | Stage::Queued | Stage::Claimed | Stage::Ended(_) => {
                Err(Refusal::WrongStage)
            }
        }
    }
}
