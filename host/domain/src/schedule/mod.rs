//! When a definition is triggered without anybody asking: its words, its cron dialect, and the rules of what fires.
//!
//! In reading order: [`cron`] reads expressions and walks wall-clock time, [`zone`] knows what a wall-clock time is in a zone, [`next`]
//! joins the two into the next instant, [`night`] is the operator's window, [`decide`] says what fires when a schedule is due, [`check`]
//! says what is wrong with a definition's fields, `words` tells a schedule in a sentence.

pub mod check;
pub mod cron;
pub mod decide;
pub mod next;
pub mod night;
#[cfg(test)]
mod tests;
mod words;
pub mod zone;

use serde::{Deserialize, Serialize};

use crate::word_enum;

pub use cron::Cron;
pub use decide::{Due, Schedule, ScheduleState};
pub use next::Plan;
pub use night::NightWindow;

word_enum! {
    /// What kind of schedule a definition has.
    #[derive(Default)]
    pub enum ScheduleType {
        /// At once when it is triggered, or by itself at `run_at`.
        #[default]
        Once = "ONCE",
        /// Again and again, each time a new trace.
        Cron = "CRON",
        /// One trace, whose root runs round after round.
        Loop = "LOOP",
    }
}

word_enum! {
    /// When tasks may run.
    #[derive(Default)]
    pub enum Window {
        /// As soon as they can.
        #[default]
        Immediate = "IMMEDIATE",
        /// At the time that their schedule says.
        Scheduled = "SCHEDULED",
        /// In the operator's night window.
        Nightly = "NIGHTLY",
    }
}

word_enum! {
    /// What becomes of instants that nobody was there to fire.
    #[derive(Default)]
    pub enum Misfire {
        /// One trace, for the latest of them.
        #[default]
        FireOnce = "FIRE_ONCE",
        /// None.
        Skip = "SKIP",
        /// One trace for each, up to a bound.
        FireAll = "FIRE_ALL",
    }
}

word_enum! {
    /// What becomes of an instant at which the trace before it still runs.
    #[derive(Default)]
    pub enum Overlap {
        /// It fires all the same.
        #[default]
        Allow = "ALLOW",
        /// It does not fire.
        Skip = "SKIP",
        /// It fires when the trace before it has ended.
        Queue = "QUEUE",
        /// The trace before it is cancelled, and it fires.
        CancelPrevious = "CANCEL_PREVIOUS",
    }
}

/// How often a LOOP goes round, and how long it waits in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoopConfig {
    /// Most rounds; none: until the code says stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rounds: Option<u32>,
    /// Seconds from the end of a round to the next.
    #[serde(default)]
    pub interval_sec: u32,
}
