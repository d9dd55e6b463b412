//! The life of a task: the only place that decides transitions.
//!
//! Each command is a struct with `decide(&self, &TaskState) -> Result<Transition, Refusal>`: a pure function. What calls it stores the
//! next state, the event and the effects in one transaction.
//!
//! ```text
//! (made) ─▶ Scheduled ──come due──▶ Queued ──claim──▶ Claimed ──finish──▶ Ended(Success)
//!    │                               ▲ ▲ ▲              │││││
//!    └────▶ WaitingDeps ──all ended──┘ │ └──release─────┘│││└─fatal, or retries spent──▶ Ended(Failed)
//!                │                     │                 ││└──retryable──▶ Backoff ──come due──▶ Queued
//!                │                     │                 │└─finish with children──▶ WaitingChildren ──all ended──▶ Queued (Aggregate)
//!                │                     └──expire─────────┘                                └─policy not met──▶ Ended(Failed)
//!                └──a dependency did not succeed──▶ Ended(Skipped)
//!
//! Cancel ends whatever is not claimed and has no open children at once, and marks the rest: a marked claim ends as Cancelled
//! whatever its outcome, a marked parent once its last child has ended.
//!
//! Pause holds what is queued and marks the rest: a marked task that would be queued is Paused instead. Resume takes the mark away
//! and queues what was held. A step that stops early because of a pause is suspended: Paused, or Queued if it was resumed meanwhile.
//!
//! A task that may be claimed at night only, and is found queued by day, is deferred: Scheduled for the next night.
//!
//! The root of a LOOP that has finished a round goes on with the next: Scheduled, or Queued, as if it were new.
//! ```
//!
//! Commands, a file each: [`Admit`], [`DependencyEnded`], [`ComeDue`], [`Defer`], [`Claim`], [`Finish`], [`Fail`], [`Suspend`], [`Release`],
//! [`Expire`], [`ConfirmCancel`], [`ChildrenEnded`], [`Cancel`], [`Pause`], [`Resume`].

mod admit;
mod cancel;
mod children_ended;
mod claim;
mod come_due;
mod confirm_cancel;
mod defer;
mod dependency_ended;
mod expire;
mod fail;
mod finish;
mod pause;
mod release;
mod resume;
mod suspend;

pub use admit::Admit;
pub use cancel::Cancel;
pub use children_ended::ChildrenEnded;
pub use claim::Claim;
pub use come_due::ComeDue;
pub use confirm_cancel::ConfirmCancel;
pub use defer::Defer;
pub use dependency_ended::DependencyEnded;
pub use expire::{CRASHES_MAX, Expire};
pub use fail::Fail;
pub use finish::{Finish, NextRound};
pub use pause::Pause;
pub use release::Release;
pub use resume::Resume;
pub use suspend::Suspend;

use crate::aggregation::ChildCounts;
use crate::clock::Timestamp;
use crate::codes;
use crate::control::Control;
use crate::event::EventType;
use crate::schedule::Window;
use crate::task::{Leg, Phase, RunOn, Status, TaskError};

/// Where a task stands, without what only readers need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskState {
    /// The stage, with what exists only in it.
    pub stage: Stage,
    /// What a claim runs next, or runs now.
    pub leg: Leg,
    /// Whether it is being cancelled, or held.
    pub control: Control,
    /// Raised by every claim.
    pub fence: u64,
    /// Attempts begun at this leg and not given back.
    pub attempt: u32,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// How often a host died while it ran this.
    pub crashes: u32,
    /// Dependencies that have not ended.
    pub open_deps: u32,
    /// What dependencies must have come to.
    pub run_on: RunOn,
    /// Not to be claimed before.
    pub run_after: Option<Timestamp>,
    /// Of its children in this round.
    pub children: ChildCounts,
    /// When it may be claimed.
    pub hours: Hours,
    /// The round of a LOOP, from 0. Children are of the round that their parent was in.
    pub round: u32,
}

/// At what hours of the day a task may be claimed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hours {
    /// At any.
    #[default]
    Any,
    /// In the operator's night only.
    Night {
        /// Whether it is the night that it is waiting for.
        waits: bool,
    },
}

impl Hours {
    /// Of tasks of a definition.
    pub fn of(window: Window) -> Self {
        match window {
            Window::Immediate | Window::Scheduled => Self::Any,
            Window::Nightly => Self::Night { waits: false },
        }
    }

    /// Waiting for them, or no longer.
    fn waiting(self, waits: bool) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Night { .. } => Self::Night { waits },
        }
    }
}

/// The stages of a task's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits for its time.
    Scheduled,
    /// Waits for siblings.
    WaitingDeps,
    /// Waits before a retry.
    Backoff,
    /// Held by order.
    Paused,
    /// Can be claimed.
    Queued,
    /// A host runs it.
    Claimed,
    /// Its children run.
    WaitingChildren,
    /// It is over, for good.
    Ended(End),
}

/// The ways to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a result.
    Success {
        /// Which was there before.
        cached: bool,
    },
    /// Without.
    Failed {
        /// And somebody should look at it.
        dead_letter: bool,
    },
    /// By order.
    Cancelled,
    /// Before it began.
    Skipped,
}

impl Stage {
    /// What the outside sees.
    pub fn status(self) -> Status {
        match self {
            Self::Scheduled | Self::WaitingDeps | Self::Backoff | Self::Paused | Self::Queued => Status::Pending,
            Self::Claimed | Self::WaitingChildren => Status::Running,
            Self::Ended(End::Success { .. }) => Status::Success,
            Self::Ended(End::Failed { .. }) => Status::Failed,
            Self::Ended(End::Cancelled) => Status::Cancelled,
            Self::Ended(End::Skipped) => Status::Skipped,
        }
    }
}

impl TaskState {
    /// A task that is about to be made. [`Admit`] says where it begins.
    pub fn new(max_retries: u32, run_on: RunOn, run_after: Option<Timestamp>) -> Self {
        Self {
            stage: Stage::Queued,
            leg: Leg::Run,
            control: Control::Run,
            fence: 0,
            attempt: 0,
            max_retries,
            crashes: 0,
            open_deps: 0,
            run_on,
            run_after,
            children: ChildCounts::default(),
            hours: Hours::Any,
            round: 0,
        }
    }

    /// What the outside sees.
    pub fn status(&self) -> Status {
        self.stage.status()
    }

    /// The finer state.
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Scheduled => Phase::Scheduled,
            Stage::WaitingDeps => Phase::WaitingDeps,
            Stage::Backoff => Phase::Backoff,
            Stage::Paused => Phase::Paused,
            Stage::Queued => Phase::Queued,
            Stage::Claimed => match self.leg {
                Leg::Run => Phase::Executing,
                Leg::Aggregate => Phase::Aggregating,
            },
            Stage::WaitingChildren => Phase::WaitingChildren,
            Stage::Ended(End::Success { cached: true }) => Phase::Cached,
            Stage::Ended(End::Failed { dead_letter: true }) => Phase::DeadLetter,
            Stage::Ended(End::Success { cached: false } | End::Failed { dead_letter: false } | End::Cancelled | End::Skipped) => Phase::Done,
        }
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// The stage that a phase and status stand for: how the store's words are read back.
    pub fn stage_of(phase: Phase, status: Status) -> Option<Stage> {
        let stage = match phase {
            Phase::Scheduled => Stage::Scheduled,
            Phase::WaitingDeps => Stage::WaitingDeps,
            Phase::Backoff => Stage::Backoff,
            Phase::Paused => Stage::Paused,
            Phase::Queued => Stage::Queued,
            Phase::Executing | Phase::Aggregating => Stage::Claimed,
            Phase::WaitingChildren => Stage::WaitingChildren,
            Phase::Cached => Stage::Ended(End::Success { cached: true }),
            Phase::DeadLetter => Stage::Ended(End::Failed { dead_letter: true }),
            Phase::Done => match status {
                Status::Success => Stage::Ended(End::Success { cached: false }),
                Status::Failed => Stage::Ended(End::Failed { dead_letter: false }),
                Status::Cancelled => Stage::Ended(End::Cancelled),
                Status::Skipped => Stage::Ended(End::Skipped),
                Status::Pending | Status::Running => return None,
            },
        };
        (stage.status() == status).then_some(stage)
    }
}

/// What a command leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The state after.
    pub next: TaskState,
    /// What to note; none: nothing that a reader would see has changed.
    pub event: Option<EventType>,
    /// What went wrong, if the task or the attempt ended badly by this.
    pub error: Option<TaskError>,
}

/// Why a command does not apply. Expected; never a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The task is over, and that is final.
    #[error("the task has already ended")]
    AlreadyEnded,
    /// A cancel is under way.
    #[error("the task is already being cancelled")]
    AlreadyCancelling,
    /// It is held already.
    #[error("the task is already paused")]
    AlreadyPaused,
    /// Nobody holds it.
    #[error("the task is not paused")]
    NotPaused,
    /// The claim is no longer the task's.
    #[error("the claim has passed to another")]
    LeaseLost,
    /// The command is for another stage.
    #[error("the task is at another stage")]
    WrongStage,
}

impl TaskState {
    fn to(&self, stage: Stage, event: Option<EventType>) -> Transition {
        Transition { next: Self { stage, ..self.clone() }, event, error: None }
    }

    fn end(&self, end: End, error: Option<TaskError>) -> Transition {
        let event = match end {
            End::Success { .. } => EventType::Completed,
            End::Failed { .. } => EventType::Failed,
            End::Cancelled => EventType::Cancelled,
            End::Skipped => EventType::Skipped,
        };
        Transition { next: Self { stage: Stage::Ended(end), run_after: None, ..self.clone() }, event: Some(event), error }
    }

    /// Cancelled, with whatever the claim came to dropped.
    fn end_cancelled(&self) -> Transition {
        self.end(End::Cancelled, Some(TaskError::new(codes::CANCELLED.name, "the task was cancelled")))
    }

    /// Nothing but time stands between the task and a claim.
    fn ready(&self, now: Timestamp) -> Transition {
        match self.run_after {
            Some(at) if at > now => self.to(Stage::Scheduled, Some(EventType::Waiting)),
            Some(_) | None => self.queue(),
        }
    }

    /// It may be claimed, unless it is held.
    fn queue(&self) -> Transition {
        let next = Self { run_after: None, hours: self.hours.waiting(false), ..self.clone() };
        match self.control {
            Control::Pause => next.to(Stage::Paused, Some(EventType::Paused)),
            Control::Run | Control::Cancel => next.to(Stage::Queued, Some(EventType::Queued)),
        }
    }

    /// What it needed did not come.
    fn skip(&self) -> Transition {
        self.end(End::Skipped, Some(TaskError::new(codes::DEPENDENCY_FAILED.name, "a dependency did not succeed")))
    }

    /// To be claimed again, as if this claim had never been; or the end of a cancelled one.
    fn give_back(&self) -> Transition {
        if self.control == Control::Cancel {
            return self.end_cancelled();
        }
        Self { attempt: self.attempt.saturating_sub(1), ..self.clone() }.queue()
    }

    /// Only for the claim that holds the task.
    fn held(&self, fence: u64) -> Result<(), Refusal> {
        match self.stage {
            Stage::Claimed if self.fence == fence => Ok(()),
            // A claim that has been settled, taken back or overtaken: its holder has nothing to say any more.
            Stage::Claimed
            | Stage::Scheduled
            | Stage::WaitingDeps
            | Stage::Backoff
            | Stage::Paused
            | Stage::Queued
            | Stage::WaitingChildren
            | Stage::Ended(_) => Err(Refusal::LeaseLost),
        }
    }
}

#[cfg(test)]
mod tests;
