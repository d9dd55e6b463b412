//! The upper-case words of the API. Each enum lists the domain's variants, so that a new one there does not compile until it is
//! documented here.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! word {
    ($(#[$meta:meta])* $name:ident for $domain:ty { $($variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub(crate) enum $name { $($variant),+ }

        impl From<$domain> for $name {
            fn from(word: $domain) -> Self {
                match word { $(<$domain>::$variant => Self::$variant),+ }
            }
        }

        impl From<$name> for $domain {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => Self::$variant),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(<$domain>::from(*self).as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = tower_domain::words::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse::<$domain>().map(Self::from)
            }
        }
    };
}

word!(
    /// The part that a task plays in the tree.
    ActorType for tower_domain::task::ActorType { Agent, Execution, GroupAgg, SingleAgg }
);
word!(
    /// What the outside sees of a task's state.
    Status for tower_domain::task::Status { Pending, Running, Success, Failed, Cancelled, Skipped }
);
word!(
    /// The finer state.
    Phase for tower_domain::task::Phase {
        Scheduled, WaitingDeps, Backoff, Paused, Queued, Executing, WaitingChildren, Aggregating, Done, Cached, DeadLetter,
    }
);
word!(
    /// What its dependencies must have come to before a task runs.
    RunOn for tower_domain::task::RunOn { Success, Finished }
);
word!(
    /// Which of a module's exports an attempt ran.
    Leg for tower_domain::task::Leg { Run, Aggregate }
);
word!(
    /// What set a trace off.
    TriggerType for tower_domain::trace::TriggerType { Manual, Api, Replay, Schedule, Cron, Loop }
);
word!(
    /// What kind of schedule a definition has.
    ScheduleType for tower_domain::schedule::ScheduleType { Once, Cron, Loop }
);
word!(
    /// Whether a schedule fires, is held, has fired for the last time, or was ended.
    ScheduleState for tower_domain::schedule::ScheduleState { Active, Paused, Completed, Cancelled }
);
word!(
    /// How a container takes its step.
    ContainerProtocol for tower_domain::container::Protocol { Command, Service }
);
word!(
    /// How long a container lives.
    ContainerMode for tower_domain::container::Mode { Ephemeral, Persistent }
);
word!(
    /// What a container reaches.
    ContainerNetwork for tower_domain::container::Network { None, Outside }
);
word!(
    /// When an image is fetched.
    ContainerPull for tower_domain::container::Pull { Missing, Never, Always }
);
word!(
    /// Whether a session was used of late, was not, has its workspace in the artifact store, or takes no more traces.
    SessionStatus for tower_domain::session::SessionStatus { Active, Idle, Archived, Closed }
);
word!(
    /// What code may do in the workspace of its trace's session.
    WorkspaceAccess for tower_domain::session::WorkspaceAccess { Read, ReadWrite }
);
word!(
    /// When tasks may run.
    Window for tower_domain::schedule::Window { Immediate, Scheduled, Nightly }
);
word!(
    /// What becomes of firings that were missed: one for the latest, none, or each of them.
    Misfire for tower_domain::schedule::Misfire { FireOnce, Skip, FireAll }
);
word!(
    /// What becomes of a firing while the last trace still runs: it runs beside it, not at all, after it, or instead of it.
    Overlap for tower_domain::schedule::Overlap { Allow, Skip, Queue, CancelPrevious }
);
word!(
    /// What happened.
    EventType for tower_domain::event::EventType {
        Started, Progress, Completed, Failed, Cancelled, Queued, Split, Waiting, Retrying, Skipped, Paused, Resumed, Log, PartialOutput,
    }
);
word!(
    /// What was ordered.
    ControlAction for tower_domain::control::ControlAction { Run, Pause, Cancel, Retry }
);

impl Status {
    /// Whether it is final.
    pub(crate) fn is_terminal(self) -> bool {
        tower_domain::task::Status::from(self).is_terminal()
    }
}
