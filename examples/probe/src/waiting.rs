//! Time, cancel and pause.

use std::hint::black_box;
use std::time::{Duration, Instant};

use command_tower::prelude::*;
use command_tower::sleep_signal;

use crate::params::Params;

/// How long an obedient wait inside the sandbox goes without asking.
const SLICE: Duration = Duration::from_millis(10);

/// Progress in `reports` steps, the last of which is 100.
pub(crate) fn report(reports: usize, pace_ms: u64) -> Result<Value> {
    for done in 1..=reports {
        report::progress_of(done, reports, format!("{done} of {reports}"));
        if pace_ms > 0 && done < reports {
            sleep(Duration::from_millis(pace_ms))?;
        }
    }
    Ok(json!({ "reports": reports }))
}

pub(crate) fn sleep_inside(ms: u64, obey: bool) -> Result<Value> {
    let begin = Instant::now();
    let wanted = Duration::from_millis(ms);
    if obey {
        while let Some(left) = wanted.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
            check_cancel()?;
            std::thread::sleep(left.min(SLICE));
        }
        check_cancel()?;
    } else {
        std::thread::sleep(wanted);
    }
    Ok(json!({ "slept_ms": millis(begin) }))
}

pub(crate) fn nap_in_host(ms: u64, obey: bool) -> Result<Value> {
    let begin = Instant::now();
    let signal = sleep_signal(Duration::from_millis(ms));
    if obey && matches!(signal, Signal::Cancel(_)) {
        return Err(Error::cancelled());
    }
    let mut output = describe(&signal);
    output["slept_ms"] = json!(millis(begin));
    Ok(output)
}

pub(crate) fn spin(ms: u64, obey: bool) -> Result<Value> {
    let begin = Instant::now();
    let wanted = Duration::from_millis(ms);
    let mut turns = 0_u64;
    while begin.elapsed() < wanted {
        if obey {
            check_cancel()?;
        }
        for turn in 0..1000_u64 {
            turns = black_box(turns + turn % 2);
        }
    }
    Ok(json!({ "turns": turns, "spun_ms": millis(begin) }))
}

/// Goes on from what was carried. The output says how many times it had been paused.
pub(crate) fn pausable(task: &Task<Params>, units: u64, pace_ms: u64) -> Result<Outcome<Value>> {
    let (begun_at, pauses) = task.carried::<(u64, u32)>()?.unwrap_or((0, 0));
    for unit in begun_at..units {
        match sleep_signal(Duration::from_millis(pace_ms)) {
            Signal::Cancel(_) => return Err(Error::cancelled()),
            Signal::Pause => return Ok(Outcome::paused((unit, pauses + 1))),
            Signal::GoOn => {}
        }
        report::progress_of(usize::try_from(unit + 1).unwrap_or(usize::MAX), usize::try_from(units).unwrap_or(usize::MAX), "at work");
    }
    Ok(Outcome::done(json!({ "units": units, "begun_at": begun_at, "pauses": pauses })))
}

pub(crate) fn describe(signal: &Signal) -> Value {
    match signal {
        Signal::GoOn => json!({ "signal": "go-on" }),
        Signal::Pause => json!({ "signal": "pause" }),
        Signal::Cancel(reason) => json!({ "signal": "cancel", "reason": reason }),
    }
}

fn millis(begin: Instant) -> u64 {
    u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::{self, Tower};
    use serde::Deserialize;

    #[test]
    fn what_obeys_ends_cancelled_and_what_does_not_goes_on() {
        let tower = Tower::new();
        tower.signal_after(0, Signal::Cancel("enough".into()));
        assert_eq!(sleep_inside(60_000, true), Err(Error::cancelled()));
        assert_eq!(spin(60_000, true), Err(Error::cancelled()));
        assert_eq!(nap_in_host(60_000, true), Err(Error::cancelled()));
        assert_eq!(nap_in_host(60_000, false).map(|output| output["reason"].clone()), Ok(json!("enough")));
        assert!(sleep_inside(1, false).is_ok() && spin(1, false).is_ok());
    }

    #[test]
    fn a_pause_keeps_what_was_done() {
        let tower = Tower::new();
        let task = testing::task(Params::deserialize(json!({ "do": "pausable", "units": 3 })).expect("the params should fit"));
        tower.signal_after(2, Signal::Pause);
        assert!(matches!(pausable(&task, 3, 5), Ok(Outcome::Paused(_))));
        tower.signal_after(0, Signal::GoOn);
        let resumed = pausable(&task.with_carried(&(2, 1)), 3, 5);
        assert!(matches!(resumed, Ok(Outcome::Done(output)) if output == json!({ "units": 3, "begun_at": 2, "pauses": 1 })));
    }

    #[test]
    fn progress_ends_at_a_hundred() {
        let tower = Tower::new();
        report(4, 5).expect("nobody cancels");
        assert_eq!(tower.progress().last().map(|(percent, _)| *percent), Some(100));
        assert_eq!(tower.slept(), Duration::from_millis(15));
    }
}
