//! Where a schedule stands, and what fires when it is due. No clock, no I/O.
//!
//! An instant that is due by more than [`GRACE`] was missed: nobody was there. Then everything that is due by now is dealt with by the
//! misfire rule. What waited behind a trace (overlap QUEUE) was not missed, however long that took.

use std::time::Duration;

use super::Misfire;
use super::next::{Beat, Plan};
use crate::clock::Timestamp;
use crate::id::TraceId;
use crate::name::Name;
use crate::word_enum;

/// How late a firing may be without having been missed.
pub const GRACE: Duration = Duration::from_secs(60);
/// Most instants that FIRE_ALL makes up for, and that QUEUE keeps.
pub const BACKLOG_MAX: usize = 100;
/// Most instants that are looked at in one go; the rest is the next one's.
const CHUNK: usize = 10_000;

word_enum! {
    /// What becomes of a schedule's next instant.
    pub enum ScheduleState {
        /// It fires.
        Active = "ACTIVE",
        /// It is held until somebody resumes it.
        Paused = "PAUSED",
        /// There is none.
        Completed = "COMPLETED",
        /// Somebody ended it.
        Cancelled = "CANCELLED",
    }
}

/// Where the schedule of a definition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Whose.
    pub definition_id: Name,
    /// The version that it was put with; later ones say the same about it.
    pub definition_version: u32,
    /// Raised by every change: whoever writes says which one was read.
    pub revision: u64,
    /// Whether it fires.
    pub state: ScheduleState,
    /// What intervals are counted from.
    pub anchor: Timestamp,
    /// The earliest instant that nothing was decided about.
    pub next_at: Option<Timestamp>,
    /// The latest that fired.
    pub last_at: Option<Timestamp>,
    /// The trace that it began.
    pub last_trace_id: Option<TraceId>,
    /// The trace whose end it waits for.
    pub waiting_trace_id: Option<TraceId>,
    /// When it waited last: instants up to then were queued and not missed.
    pub waited_until: Option<Timestamp>,
    /// Instants that began a trace.
    pub fired: u64,
    /// Instants that nobody was there to fire.
    pub missed: u64,
    /// Instants that were left out: for a trace that still ran, or as none could be begun.
    pub skipped: u64,
    /// When it changed.
    pub updated_at: Timestamp,
}

/// What is to be done about a schedule that is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// Instants that fire, oldest first.
    pub fire: Vec<Timestamp>,
    /// Instants that were missed and do not.
    pub missed: u64,
    /// Instants that were queued and became too many.
    pub skipped: u64,
    /// The next instant; none: there is none any more.
    pub next_at: Option<Timestamp>,
}

impl Plan {
    /// The schedule of a definition that was put, or changed, just now. `last_at`: what fired before never fires again.
    pub fn begin(&self, id: &Name, version: u32, last_at: Option<Timestamp>, now: Timestamp) -> Schedule {
        let next_at = match self.beat {
            // One that is over already is late, and not forgotten.
            Beat::At(at) => Some(at).filter(|at| last_at.is_none_or(|last| *at > last)),
            Beat::Cron(..) | Beat::Every(_) => self.next(last_at.map_or(now, |last| last.max(now)), now),
        };
        Schedule {
            definition_id: id.clone(),
            definition_version: version,
            revision: 1,
            state: if next_at.is_some() { ScheduleState::Active } else { ScheduleState::Completed },
            anchor: now,
            next_at,
            last_at,
            last_trace_id: None,
            waiting_trace_id: None,
            waited_until: None,
            fired: 0,
            missed: 0,
            skipped: 0,
            updated_at: now,
        }
    }

    /// The next instant of a schedule that was held until now: what passed meanwhile was not missed, and nothing fires twice.
    pub fn resumed(&self, row: &Schedule, now: Timestamp) -> Option<Timestamp> {
        self.next(row.last_at.map_or(now, |last| last.max(now)), row.anchor)
    }

    /// What fires of a schedule that is due.
    pub fn due(&self, row: &Schedule, now: Timestamp) -> Due {
        let mut instants: Vec<Timestamp> =
            std::iter::successors(row.next_at, |at| self.next(*at, row.anchor)).take_while(|at| *at <= now).take(CHUNK).collect();
        let Some(last) = instants.last().copied() else { return Due { next_at: row.next_at, ..Due::default() } };
        let next_at = self.next(last, row.anchor);
        let queued_until = row.waited_until.unwrap_or(Timestamp::from_micros(i64::MIN));
        if next_at.is_some_and(|next| next <= now) {
            // There are more: these are too old to fire in any case, but for the last few.
            let kept = instants.split_off(instants.len() - BACKLOG_MAX);
            let queued = instants.iter().filter(|at| **at <= queued_until).count();
            return Due { fire: Vec::new(), missed: (instants.len() - queued) as u64, skipped: queued as u64, next_at: Some(kept[0]) };
        }
        let others = instants.split_off(instants.partition_point(|at| *at <= queued_until));
        let skipped = instants.len().saturating_sub(BACKLOG_MAX);
        let mut fire = instants.split_off(skipped);
        let found = others.len();
        let due = self.not_missed(others, now);
        let missed = (found - due.len()) as u64;
        fire.extend(due);
        Due { fire, missed, skipped: skipped as u64, next_at }
    }

    /// The instants that fire all the same, when some may have been missed.
    fn not_missed(&self, mut instants: Vec<Timestamp>, now: Timestamp) -> Vec<Timestamp> {
        let is_late = |at: &Timestamp| now.since(*at) > GRACE;
        if !instants.first().is_some_and(is_late) {
            return instants;
        }
        match self.misfire {
            Misfire::FireOnce => instants.split_off(instants.len() - 1),
            Misfire::Skip => instants.pop().filter(|at| !is_late(at)).into_iter().collect(),
            Misfire::FireAll => instants.split_off(instants.len().saturating_sub(BACKLOG_MAX)),
        }
    }

    /// When the root of a firing may run: spread by a delay that depends on nothing but the definition and the instant.
    pub fn run_after(&self, id: &Name, at: Timestamp) -> Option<Timestamp> {
        let bound = u64::try_from(self.jitter.as_micros()).unwrap_or(u64::MAX);
        (bound > 0).then(|| at.plus(Duration::from_micros(spread(id, at) % (bound + 1))))
    }
}

/// A number that looks drawn (FNV-1a, with the finaliser of SplitMix64).
fn spread(id: &Name, at: Timestamp) -> u64 {
    let bytes = id.as_str().bytes().chain(at.as_micros().to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Overlap;

    const HOUR: i64 = 3_600_000_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_micros(hours * HOUR)
    }

    fn hourly(misfire: Misfire) -> Plan {
        let beat = Beat::Every(Duration::from_secs(3_600));
        Plan { beat, starts_at: None, ends_at: None, misfire, overlap: Overlap::Allow, jitter: Duration::ZERO }
    }

    fn id() -> Name {
        Name::new("d").unwrap()
    }

    #[test]
    fn what_is_due_in_time_fires() {
        let plan = hourly(Misfire::Skip);
        let row = plan.begin(&id(), 1, None, at(0));
        assert_eq!(row.next_at, Some(at(1)));
        assert_eq!(plan.due(&row, at(1)), Due { fire: vec![at(1)], next_at: Some(at(2)), ..Due::default() });
        assert_eq!(plan.due(&row, at(1).plus(GRACE)).fire, [at(1)]);
        assert_eq!(plan.due(&row, Timestamp::from_micros(HOUR - 1)), Due { next_at: Some(at(1)), ..Due::default() });
    }

    #[test]
    fn what_was_missed_is_dealt_with_by_the_rule() {
        let late = at(5).plus(2 * GRACE);
        let due = |misfire| hourly(misfire).due(&hourly(misfire).begin(&id(), 1, None, at(0)), late);
        assert_eq!(due(Misfire::FireOnce), Due { fire: vec![at(5)], missed: 4, skipped: 0, next_at: Some(at(6)) });
        assert_eq!(due(Misfire::Skip), Due { fire: vec![], missed: 5, skipped: 0, next_at: Some(at(6)) });
        assert_eq!(due(Misfire::FireAll), Due { fire: (1..=5).map(at).collect(), missed: 0, skipped: 0, next_at: Some(at(6)) });
    }

    #[test]
    fn the_latest_may_be_in_time_although_others_were_missed() {
        let plan = hourly(Misfire::Skip);
        let due = plan.due(&plan.begin(&id(), 1, None, at(0)), at(5).plus(GRACE));
        assert_eq!((due.fire, due.missed), (vec![at(5)], 4));
    }

    #[test]
    fn a_long_time_away_is_made_up_for_up_to_a_bound() {
        let plan = hourly(Misfire::FireAll);
        let mut row = plan.begin(&id(), 1, None, at(0));
        let now = at(25_000).plus(2 * GRACE);
        let (mut missed, mut fired, mut looks) = (0, Vec::new(), 0);
        while row.next_at.is_some_and(|next| next <= now) {
            let due = plan.due(&row, now);
            missed += due.missed;
            fired.extend(due.fire);
            row.next_at = due.next_at;
            looks += 1;
        }
        assert_eq!((missed, fired.len(), looks), (24_900, 100, 3));
        assert_eq!((fired[0], fired[99]), (at(24_901), at(25_000)));
    }

    #[test]
    fn what_was_queued_was_not_missed() {
        let plan = hourly(Misfire::Skip);
        let row = Schedule { waited_until: Some(at(150)), ..plan.begin(&id(), 1, None, at(0)) };
        let due = plan.due(&row, at(155).plus(2 * GRACE));
        assert_eq!((due.fire.len(), due.fire[0], due.skipped, due.missed), (100, at(51), 50, 5));
    }

    #[test]
    fn what_has_fired_does_not_fire_again_when_the_schedule_changes() {
        let cron = Plan { beat: Beat::Cron("0 * * * *".parse().unwrap(), crate::schedule::zone::Zone::UTC), ..hourly(Misfire::FireOnce) };
        // The clock was put back since.
        assert_eq!(cron.begin(&id(), 2, Some(at(9)), at(7)).next_at, Some(at(10)));
        let once = Plan { beat: Beat::At(at(3)), ..cron };
        assert_eq!(once.begin(&id(), 1, None, at(7)).next_at, Some(at(3)), "late, and not forgotten");
        assert_eq!(once.begin(&id(), 2, Some(at(3)), at(7)).state, ScheduleState::Completed);
    }

    #[test]
    fn a_schedule_ends() {
        let plan = Plan { ends_at: Some(at(3)), ..hourly(Misfire::FireOnce) };
        let row = plan.begin(&id(), 1, None, at(0));
        assert_eq!(plan.due(&row, at(2)), Due { fire: vec![at(1), at(2)].split_off(1), missed: 1, skipped: 0, next_at: None });
        let starts = Plan { starts_at: Some(at(10)), ..hourly(Misfire::FireOnce) };
        let row = starts.begin(&id(), 1, None, at(0));
        assert_eq!((row.next_at, starts.next(at(10), row.anchor)), (Some(at(10)), Some(at(11))));
    }

    #[test]
    fn jitter_is_spread_and_always_the_same() {
        let plan = Plan { jitter: Duration::from_secs(60), ..hourly(Misfire::FireOnce) };
        let delays: Vec<u64> = (0..1_000).map(|hour| plan.run_after(&id(), at(hour)).unwrap().since(at(hour)).as_secs()).collect();
        assert!(delays.iter().all(|delay| *delay <= 60) && (0..60).all(|second| delays.contains(&second)), "{delays:?}");
        assert_eq!(plan.run_after(&id(), at(7)), plan.run_after(&id(), at(7)));
        assert_eq!(hourly(Misfire::FireOnce).run_after(&id(), at(7)), None);
    }
}
