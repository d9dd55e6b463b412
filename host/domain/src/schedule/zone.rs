//! Time zones: what instants a wall-clock time stands for.

use chrono::offset::LocalResult;
use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// No zone is further from UTC, either way.
const OFFSET_MAX: TimeDelta = TimeDelta::hours(16);

/// A zone by its IANA name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(Tz);

/// There is no zone of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is no time zone{}; IANA names such as Europe/Berlin or UTC are", .nearest.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default())]
pub struct UnknownZone {
    /// What was given, cut at 64 characters.
    pub got: String,
    /// A name that looks like it.
    pub nearest: Option<&'static str>,
}

/// The instants that a wall-clock time stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instants {
    /// One, as nearly always.
    One(DateTime<Utc>),
    /// Two: clocks were put back over it.
    Two(DateTime<Utc>, DateTime<Utc>),
    /// None: clocks were put forward over it, at this instant.
    Skipped(DateTime<Utc>),
}

impl std::str::FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        name.parse().map(Self).map_err(|_| UnknownZone { got: name.chars().take(64).collect(), nearest: nearest(name) })
    }
}

impl std::fmt::Display for Zone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

fn nearest(name: &str) -> Option<&'static str> {
    let name: String = name.chars().take(64).collect::<String>().to_ascii_lowercase().replace(' ', "_");
    let near = chrono_tz::TZ_VARIANTS.iter().map(|zone| {
        let whole = zone.name().to_ascii_lowercase();
        // People also give the city alone.
        let city = whole.rsplit('/').next().unwrap_or(&whole);
        (strsim::jaro_winkler(&name, &whole).max(strsim::jaro_winkler(&name, city)), zone.name())
    });
    near.filter(|(likeness, _)| *likeness > 0.85).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

impl Zone {
    /// UTC.
    pub const UTC: Self = Self(Tz::UTC);

    /// What clocks there show at an instant.
    pub fn wall(self, at: DateTime<Utc>) -> NaiveDateTime {
        at.with_timezone(&self.0).naive_local()
    }

    /// An instant as RFC 3339 text with the zone's offset.
    pub fn text(self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.0).to_rfc3339()
    }

    /// The instants at which clocks there show `wall`.
    pub fn instants(self, wall: NaiveDateTime) -> Instants {
        match self.0.from_local_datetime(&wall) {
            LocalResult::Single(at) => Instants::One(at.to_utc()),
            LocalResult::Ambiguous(first, second) => Instants::Two(first.to_utc(), second.to_utc()),
            LocalResult::None => {
                // Before the change clocks show earlier times, from it on later ones.
                let middle = wall.and_utc();
                Instants::Skipped(first_that(middle - OFFSET_MAX, middle + OFFSET_MAX, |at| self.wall(at) > wall))
            }
        }
    }

    /// When clocks are put back so that they show the time of `at` again; none: they are not, or have been already.
    pub fn put_back_after(self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Instants::Two(_, second) = self.instants(self.wall(at)) else { return None };
        let after = self.offset(second);
        (self.offset(at) != after).then(|| first_that(at, second, |at| self.offset(at) == after))
    }

    fn offset(self, at: DateTime<Utc>) -> i32 {
        self.0.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
    }
}

/// The first whole second after `low`, up to `high`, for which `fits` holds; it holds from there on, and for `high`.
fn first_that(low: DateTime<Utc>, high: DateTime<Utc>, fits: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    let (mut low, mut high) = (low.timestamp(), high.timestamp());
    let at = |second: i64| DateTime::from_timestamp(second, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if fits(at(middle)) { high = middle } else { low = middle }
    }
    at(high)
}
