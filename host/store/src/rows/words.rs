//! Words as small integers. What a number stands for is never changed: it is in people's files.

use tower_domain::control::ControlAction;
use tower_domain::definition::AggregationPolicy;
use tower_domain::event::EventType;
use tower_domain::lifecycle::{Hours, TaskState};
use tower_domain::schedule::ScheduleState;
use tower_domain::session::SessionStatus;
use tower_domain::task::{ActorType, Leg, Phase, RunOn, Status};
use tower_domain::trace::TriggerType;

/// A value that one integer column holds.
pub(crate) trait Word: Sized {
    /// The number.
    fn code(self) -> i64;
    /// What a number stands for.
    fn from_code(code: i64) -> Option<Self>;
}

macro_rules! words {
    ($($name:ident { $($variant:ident = $code:literal),+ $(,)? })+) => { $(
        impl Word for $name {
            fn code(self) -> i64 {
                match self { $(Self::$variant => $code),+ }
            }
            fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }
    )+ };
}

words! {
    Status { Pending = 0, Running = 1, Success = 2, Failed = 3, Cancelled = 4, Skipped = 5 }
    ActorType { Agent = 0, Execution = 1, GroupAgg = 2, SingleAgg = 3 }
    Leg { Run = 0, Aggregate = 1 }
    RunOn { Success = 0, Finished = 1 }
    TriggerType { Manual = 0, Api = 1, Replay = 2, Schedule = 3, Cron = 4, Loop = 5 }
    ScheduleState { Active = 0, Paused = 1, Completed = 2, Cancelled = 3 }
    SessionStatus { Active = 0, Idle = 1, Archived = 2, Closed = 3 }
    ControlAction { Run = 0, Pause = 1, Cancel = 2, Retry = 3 }
    EventType {
        Started = 0, Progress = 1, Completed = 2, Failed = 3, Cancelled = 4, Queued = 5, Split = 6, Waiting = 7, Retrying = 8,
        Skipped = 9, Paused = 10, Resumed = 11, Log = 12, PartialOutput = 13,
    }
}

impl Word for Hours {
    fn code(self) -> i64 {
        match self {
            Self::Any => 0,
            Self::Night { waits: false } => 1,
            Self::Night { waits: true } => 2,
        }
    }

    fn from_code(code: i64) -> Option<Self> {
        match code {
            0 => Some(Self::Any),
            1 => Some(Self::Night { waits: false }),
            2 => Some(Self::Night { waits: true }),
            _ => None,
        }
    }
}

/// A status with a phase that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) phase: Phase,
}

impl State {
    /// Of a task's state.
    pub(crate) fn of(state: &TaskState) -> Self {
        Self { status: state.status(), phase: state.phase() }
    }

    /// Every state there is.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..=13).filter_map(Self::from_code)
    }
}

impl Word for State {
    fn code(self) -> i64 {
        match (self.phase, self.status) {
            (Phase::Scheduled, _) => 0,
            (Phase::WaitingDeps, _) => 1,
            (Phase::Backoff, _) => 2,
            (Phase::Paused, _) => 3,
            (Phase::Queued, _) => 4,
            (Phase::Executing, _) => 5,
            (Phase::WaitingChildren, _) => 6,
            (Phase::Aggregating, _) => 7,
            (Phase::Cached, _) => 9,
            (Phase::DeadLetter, _) => 11,
            (Phase::Done, Status::Failed) => 10,
            (Phase::Done, Status::Cancelled) => 12,
            (Phase::Done, Status::Skipped) => 13,
            // No task is done and open.
            (Phase::Done, Status::Success | Status::Pending | Status::Running) => 8,
        }
    }

    fn from_code(code: i64) -> Option<Self> {
        let (status, phase) = match code {
            0 => (Status::Pending, Phase::Scheduled),
            1 => (Status::Pending, Phase::WaitingDeps),
            2 => (Status::Pending, Phase::Backoff),
            3 => (Status::Pending, Phase::Paused),
            4 => (Status::Pending, Phase::Queued),
            5 => (Status::Running, Phase::Executing),
            6 => (Status::Running, Phase::WaitingChildren),
            7 => (Status::Running, Phase::Aggregating),
            8 => (Status::Success, Phase::Done),
            9 => (Status::Success, Phase::Cached),
            10 => (Status::Failed, Phase::Done),
            11 => (Status::Failed, Phase::DeadLetter),
            12 => (Status::Cancelled, Phase::Done),
            13 => (Status::Skipped, Phase::Done),
            _ => return None,
        };
        Some(Self { status, phase })
    }
}

impl Word for AggregationPolicy {
    fn code(self) -> i64 {
        match self {
            Self::All => -1,
            Self::Always => -2,
            Self::Partial { min_success } => min_success.into(),
        }
    }

    fn from_code(code: i64) -> Option<Self> {
        match code {
            -1 => Some(Self::All),
            -2 => Some(Self::Always),
            min_success => Some(Self::Partial { min_success: u32::try_from(min_success).ok()? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_read_back<W: Word + Copy + PartialEq + std::fmt::Debug>(words: &[W]) {
        for word in words {
            assert_eq!(W::from_code(word.code()), Some(*word));
        }
    }

    #[test]
    fn every_word_reads_back() {
        all_read_back(Status::ALL);
        all_read_back(ActorType::ALL);
        all_read_back(Leg::ALL);
        all_read_back(RunOn::ALL);
        all_read_back(TriggerType::ALL);
        all_read_back(ScheduleState::ALL);
        all_read_back(ControlAction::ALL);
        all_read_back(EventType::ALL);
        all_read_back(&[AggregationPolicy::All, AggregationPolicy::Always, AggregationPolicy::Partial { min_success: 0 }, AggregationPolicy::default()]);
        let states: Vec<State> = State::all().collect();
        assert_eq!(states.len(), 14);
        all_read_back(&states);
        for phase in Phase::ALL {
            assert!(states.iter().any(|state| state.phase == *phase), "{phase}");
        }
    }
}
