//! The next instant of a schedule.
//!
//! Where clocks are put forward, an expression that names hours fires the times that were skipped once, at the instant of the change;
//! where they are put back, it fires at the first of two equal times. An expression of every hour fires whenever clocks show a time that
//! fits, and so follows elapsed time. An interval knows no clocks.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};

use super::cron::Cron;
use super::zone::{Instants, Zone};
use super::{Misfire, Overlap, ScheduleType};
use crate::clock::Timestamp;
use crate::definition::DefinitionSpec;

/// When a definition fires, and by which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What makes it fire.
    pub beat: Beat,
    /// Nothing fires before.
    pub starts_at: Option<Timestamp>,
    /// Nothing fires from then on.
    pub ends_at: Option<Timestamp>,
    /// What becomes of instants that were missed.
    pub misfire: Misfire,
    /// What becomes of instants at which the last trace still runs.
    pub overlap: Overlap,
    /// Roots run up to so much later than their instant.
    pub jitter: Duration,
}

/// What makes a schedule fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// A single instant.
    At(Timestamp),
    /// A cron expression in a zone.
    Cron(Cron, Zone),
    /// Equal steps of elapsed time.
    Every(Duration),
}

impl Plan {
    /// The schedule of a definition that [`DefinitionSpec::check`] finds sound; none: it is triggered by somebody.
    pub fn of(spec: &DefinitionSpec) -> Option<Self> {
        let beat = match spec.schedule_type {
            ScheduleType::Once | ScheduleType::Loop => Beat::At(spec.run_at?),
            ScheduleType::Cron => match (&spec.cron_expr, spec.interval_sec) {
                (Some(expr), _) => Beat::Cron(expr.parse().ok()?, spec.timezone.parse().ok()?),
                (None, interval) => Beat::Every(Duration::from_secs(interval?.max(1).into())),
            },
        };
        let jitter = Duration::from_secs(spec.jitter_sec.into());
        Some(Self { beat, starts_at: spec.starts_at, ends_at: spec.ends_at, misfire: spec.misfire, overlap: spec.overlap, jitter })
    }

    /// The first instant after `after`; intervals are counted from `starts_at`, or else from `anchor`, when the schedule was put.
    pub fn next(&self, after: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let after = match self.starts_at {
            Some(start) => after.max(Timestamp::from_micros(start.as_micros() - 1)),
            None => after,
        };
        let next = match self.beat {
            Beat::At(at) => (at > after).then_some(at)?,
            Beat::Cron(cron, zone) => Timestamp::from_chrono(next_of(&cron, zone, after.to_chrono())?),
            Beat::Every(step) => match self.starts_at {
                Some(start) if start > after => start,
                start => next_step(start.unwrap_or(anchor), step, after),
            },
        };
        (next <= Timestamp::MAX && self.ends_at.is_none_or(|end| next < end)).then_some(next)
    }
}

/// The first of `from + step`, `from + 2 step` and so on that lies after `after`.
fn next_step(from: Timestamp, step: Duration, after: Timestamp) -> Timestamp {
    let done = after.since(from).as_micros() / step.as_micros();
    let micros = u64::try_from(step.as_micros().saturating_mul(done + 1)).unwrap_or(u64::MAX);
    from.plus(Duration::from_micros(micros))
}

/// The first instant after `after` at which an expression fires in a zone.
pub fn next_of(cron: &Cron, zone: Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let shown = zone.wall(after).with_nanosecond(0)?;
    let later = first_after(cron, zone, shown + TimeDelta::seconds(1), after);
    if !cron.is_every_hour() {
        return later;
    }
    // Times up to the one that is shown now come again where clocks are about to be put back.
    let again = zone.put_back_after(after).and_then(|change| first_after(cron, zone, zone.wall(change), change - TimeDelta::nanoseconds(1)));
    [later, again].into_iter().flatten().min()
}

/// The first instant after `after` among those of the wall-clock times that fit, from `wall` on.
fn first_after(cron: &Cron, zone: Zone, mut wall: chrono::NaiveDateTime, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    loop {
        let fitting = cron.first_from(wall)?;
        let instants = match zone.instants(fitting) {
            Instants::One(at) => [Some(at), None],
            Instants::Two(first, second) => [Some(first), cron.is_every_hour().then_some(second)],
            Instants::Skipped(change) => [(!cron.is_every_hour()).then_some(change), None],
        };
        if let Some(at) = instants.into_iter().flatten().find(|at| *at > after) {
            return Some(at);
        }
        wall = fitting + TimeDelta::seconds(1);
    }
}
