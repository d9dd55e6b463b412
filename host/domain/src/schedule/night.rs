//! The operator's night: the hours of each day in which NIGHTLY tasks run.

use std::str::FromStr;

use chrono::{NaiveDateTime, NaiveTime, TimeDelta};

use super::zone::{Instants, Zone};
use crate::clock::Timestamp;

/// Hours of each day, by the clocks of a zone; they may go over midnight.
///
/// By wall clock: where a change of daylight-saving time skips the beginning, they begin right after it; where it skips all of them, that
/// day has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NightWindow {
    from: NaiveTime,
    to: NaiveTime,
    zone: Zone,
}

/// What is written is no window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}`: two times of the day, such as 02:00-08:00 or 22:30-05:00")]
pub struct BadWindow(String);

impl Default for NightWindow {
    /// 02:00 to 08:00 UTC.
    fn default() -> Self {
        let hour = |hour: i64| NaiveTime::MIN + TimeDelta::hours(hour);
        Self { from: hour(2), to: hour(8), zone: Zone::UTC }
    }
}

impl FromStr for NightWindow {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let bad = || BadWindow(text.chars().take(64).collect());
        let time = |text: &str| NaiveTime::parse_from_str(text.trim(), "%H:%M").map_err(|_| bad());
        // An en dash is what people copy from documents.
        let (from, to) = text.split_once(['-', '–']).ok_or_else(bad)?;
        let (from, to) = (time(from)?, time(to)?);
        if from == to { Err(bad()) } else { Ok(Self { from, to, zone: Zone::UTC }) }
    }
}

impl std::fmt::Display for NightWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{} {}", self.from.format("%H:%M"), self.to.format("%H:%M"), self.zone)
    }
}

impl NightWindow {
    /// All hours: for a run that nobody wants to wait for.
    pub const ALWAYS: Self = Self { from: NaiveTime::MIN, to: NaiveTime::MIN, zone: Zone::UTC };

    /// The same hours by the clocks of a zone.
    pub fn in_zone(self, zone: Zone) -> Self {
        Self { zone, ..self }
    }

    /// Whether an instant is within.
    pub fn contains(&self, at: Timestamp) -> bool {
        let time = self.zone.wall(at.to_chrono()).time();
        if self.from < self.to { (self.from..self.to).contains(&time) } else { time >= self.from || time < self.to }
    }

    /// When it opens the next time, after an instant.
    pub fn opens_after(&self, at: Timestamp) -> Timestamp {
        let today = self.zone.wall(at.to_chrono()).date();
        // A day that a zone left out has none; two in a row were never left out.
        let days = (-1..=3).filter_map(|days| today.checked_add_signed(TimeDelta::days(days)));
        let openings = days.map(|day| match self.zone.instants(NaiveDateTime::new(day, self.from)) {
            Instants::One(opens) | Instants::Two(opens, _) | Instants::Skipped(opens) => Timestamp::from_chrono(opens),
        });
        openings.filter(|opens| *opens > at).min().unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_value(serde_json::Value::String(text.to_owned())).unwrap()
    }

    fn window(hours: &str, zone: &str) -> NightWindow {
        hours.parse::<NightWindow>().unwrap().in_zone(zone.parse().unwrap())
    }

    #[test]
    fn hours_are_within_or_not_also_over_midnight_and_in_other_zones() {
        for (hours, zone, instant, within, opens) in [
            ("02:00-08:00", "UTC", "2026-03-01T01:59:59Z", false, "2026-03-01T02:00:00Z"),
            ("02:00-08:00", "UTC", "2026-03-01T02:00:00Z", true, "2026-03-02T02:00:00Z"),
            ("02:00-08:00", "UTC", "2026-03-01T08:00:00Z", false, "2026-03-02T02:00:00Z"),
            ("22:30-05:00", "UTC", "2026-12-31T23:00:00Z", true, "2027-01-01T22:30:00Z"),
            ("22:30-05:00", "UTC", "2027-01-01T04:59:59Z", true, "2027-01-01T22:30:00Z"),
            ("22:30-05:00", "UTC", "2027-01-01T05:00:00Z", false, "2027-01-01T22:30:00Z"),
            ("02:00–08:00", "Asia/Shanghai", "2026-03-01T18:30:00Z", true, "2026-03-02T18:00:00Z"),
            ("02:00-08:00", "Asia/Shanghai", "2026-03-01T02:30:00Z", false, "2026-03-01T18:00:00Z"),
            // The beginning is skipped on 29 March 2026: it opens at 03:00 of summer time.
            ("02:30-08:00", "Europe/Berlin", "2026-03-29T00:59:00Z", false, "2026-03-29T01:00:00Z"),
            ("02:30-08:00", "Europe/Berlin", "2026-03-29T01:00:00Z", true, "2026-03-30T00:30:00Z"),
            // The beginning comes twice on 25 October 2026: it opens the first time.
            ("02:30-08:00", "Europe/Berlin", "2026-10-24T20:00:00Z", false, "2026-10-25T00:30:00Z"),
        ] {
            let window = window(hours, zone);
            assert_eq!((window.contains(at(instant)), window.opens_after(at(instant))), (within, at(opens)), "{window} at {instant}");
        }
        assert!(["2026-03-01T00:00:00Z", "2026-03-01T12:00:00Z", "2026-03-01T23:59:59Z"].iter().all(|instant| NightWindow::ALWAYS.contains(at(instant))));
        assert_eq!(NightWindow::default().to_string(), "02:00-08:00 UTC");
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for bad in ["", "02:00", "02:00-02:00", "24:00-08:00", "2-8", "02:00-08:00-09:00", "night"] {
            assert!(bad.parse::<NightWindow>().is_err(), "{bad}");
        }
    }
}
