//! The cron dialect: five or six fields (six: seconds first), names of months and weekdays, ranges, lists, steps, `?` for `*`, and `@daily`
//! and its like. Sunday is 0 or 7. Where both day fields are restricted a day has to fit one of them, as in Unix cron; a field that begins
//! with `*` does not restrict in this sense, so that `*/2` and a weekday have to fit both.
//!
//! Lists, ranges and steps are read by the crate `cron`, whose own dialect counts weekdays from Sunday as 1, knows no five fields, takes both
//! day fields together and does not say which field is wrong; what it makes of an expression in a zone goes back in time where clocks do. So
//! it is asked for the numbers of each field and nothing else.
//!
//! What is here knows wall-clock time alone; [`super::next`] adds the zone.

use ::cron::{Schedule, TimeUnitSpec};
use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

/// Longest expression.
const TEXT_BYTES_MAX: usize = 256;

/// The calendar repeats itself, weekdays included, after so many years: what does not fire within them never does.
const CALENDAR_YEARS: i32 = 400;

/// An expression that was read. Each set has a bit for each number that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A day that fits one of the day fields is enough.
    either_day: bool,
}

/// An expression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCron(String);

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    /// Words for `low`, `low + 1` and so on.
    words: &'static [&'static str],
}

pub(super) const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
pub(super) const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const FIELDS: [Field; 6] = [
    Field { name: "second", low: 0, high: 59, words: &[] },
    Field { name: "minute", low: 0, high: 59, words: &[] },
    Field { name: "hour", low: 0, high: 23, words: &[] },
    Field { name: "day of month", low: 1, high: 31, words: &[] },
    Field { name: "month", low: 1, high: 12, words: &MONTHS },
    Field { name: "day of week", low: 0, high: 7, words: &WEEKDAYS },
];

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

impl std::str::FromStr for Cron {
    type Err = BadCron;

    fn from_str(text: &str) -> Result<Self, BadCron> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(BadCron(format!("at most {TEXT_BYTES_MAX} bytes")));
        }
        let text = match text.trim() {
            nickname if nickname.starts_with('@') => {
                let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(nickname));
                let names = || NICKNAMES.map(|(name, _)| name).join(", ");
                known.ok_or_else(|| BadCron(format!("`{}` is none of {}", shown(nickname), names())))?.1
            }
            fields => fields,
        };
        let mut texts: Vec<&str> = text.split_ascii_whitespace().collect();
        if texts.len() == 5 {
            texts.insert(0, "0");
        }
        let Ok(texts) = <[&str; 6]>::try_from(texts) else {
            return Err(BadCron("five fields are expected (minute, hour, day of month, month, day of week), or six with the second first".to_owned()));
        };
        let mut sets = [0; 6];
        for (at, ((set, field), text)) in sets.iter_mut().zip(&FIELDS).zip(&texts).enumerate() {
            *set = field.read(at, text)?;
        }
        let [seconds, minutes, hours, days, months, weekdays] = sets;
        let restricted = |text: &str| !text.starts_with(['*', '?']);
        let cron = Self { seconds, minutes, hours, days, months, weekdays, either_day: restricted(texts[3]) && restricted(texts[5]) };
        match NaiveDate::from_ymd_opt(2_000, 1, 1).and_then(|day| cron.first_from(day.into())) {
            Some(_) => Ok(cron),
            None => Err(BadCron("it never fires: no such day is in the calendar".to_owned())),
        }
    }
}

impl Field {
    /// The set of a field: items between commas, each read by the crate in an expression that is open otherwise, so that what is wrong
    /// can be named.
    fn read(&self, at: usize, text: &str) -> Result<u64, BadCron> {
        text.split(',').try_fold(0, |set, item| {
            let item_there = self.translated(item)?;
            let mut fields = ["*"; FIELDS.len()];
            fields[at] = &item_there;
            let read: Schedule = fields.join(" ").parse().map_err(|_| self.wrong(item, "is a range from its end to its beginning"))?;
            Ok(set | self.numbers(at, &read))
        })
    }

    /// The numbers that the crate found, as a set.
    fn numbers(&self, at: usize, read: &Schedule) -> u64 {
        let set = |spec: &dyn Fn(u32) -> bool, low: u32, high: u32| (low..=high).filter(|number| spec(*number)).fold(0, |set, number| set | 1u64 << number);
        match at {
            0 => set(&|number| read.seconds().includes(number), self.low, self.high),
            1 => set(&|number| read.minutes().includes(number), self.low, self.high),
            2 => set(&|number| read.hours().includes(number), self.low, self.high),
            3 => set(&|number| read.days_of_month().includes(number), self.low, self.high),
            4 => set(&|number| read.months().includes(number), self.low, self.high),
            // Counted from Sunday as 1 there.
            _ => set(&|number| read.days_of_week().includes(number + 1), 0, 6),
        }
    }

    /// An item in the crate's dialect: words as numbers, weekdays counted from Sunday as 1 and, where a range goes on beyond Saturday, one
    /// by one; `?` is for people.
    fn translated(&self, item: &str) -> Result<String, BadCron> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(self.step(step, item)?)),
        };
        let step_text = step.map(|step| format!("/{step}")).unwrap_or_default();
        let is_week = self.words.len() == WEEKDAYS.len();
        Ok(match (range, range.split_once('-')) {
            ("*" | "?", _) => format!("*{step_text}"),
            (_, Some((from, to))) if is_week => {
                let (from, to) = (self.number(from)?, self.number(to)?);
                let to = if from > to { to + 7 } else { to };
                (from..=to).step_by(step.unwrap_or(1) as usize).map(|day| (day % 7 + 1).to_string()).collect::<Vec<_>>().join(",")
            }
            (_, Some((from, to))) => format!("{}-{}{step_text}", self.number(from)?, self.number(to)?),
            (_, None) if is_week => format!("{}{step_text}", self.number(range)? % 7 + 1),
            (_, None) => format!("{}{step_text}", self.number(range)?),
        })
    }

    fn step(&self, text: &str, item: &str) -> Result<u32, BadCron> {
        match digits(text) {
            Some(step) if (1..=self.high).contains(&step) => Ok(step),
            _ => Err(self.wrong(item, &format!("has a step that is no number from 1 to {}", self.high))),
        }
    }

    fn number(&self, text: &str) -> Result<u32, BadCron> {
        let word = self.words.iter().zip(self.low..).find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, number)| number);
        match word.or_else(|| digits(text)) {
            Some(number) if (self.low..=self.high).contains(&number) => Ok(number),
            _ if self.words.is_empty() => Err(self.wrong(text, &format!("is no number from {} to {}", self.low, self.high))),
            _ => Err(self.wrong(text, &format!("is no number from {} to {}, and none of {}", self.low, self.high, self.words.join(", ")))),
        }
    }

    fn wrong(&self, what: &str, why: &str) -> BadCron {
        BadCron(format!("{}: `{}` {why}", self.name, shown(what)))
    }
}

/// At most three digits and nothing else.
fn digits(text: &str) -> Option<u32> {
    ((1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn shown(text: &str) -> String {
    text.chars().take(32).collect()
}

impl Cron {
    /// Whether its hour field takes in the whole day. Such an expression follows elapsed time where clocks are changed; any other names
    /// hours, which a change must neither swallow nor double.
    pub fn is_every_hour(&self) -> bool {
        self.hours == (1 << 24) - 1
    }

    /// Whether a day that fits one of the day fields is enough.
    pub(super) fn is_either_day(&self) -> bool {
        self.either_day
    }

    /// The numbers that fit each field: seconds, minutes, hours, days, months, weekdays from Sunday as 0.
    pub(super) fn sets(&self) -> [Vec<u32>; 6] {
        [self.seconds, self.minutes, self.hours, self.days, self.months, self.weekdays].map(|set| (0..64).filter(|number| has(set, *number)).collect())
    }

    /// The shortest time between two firings of an ordinary day, in seconds.
    pub fn shortest_sec(&self) -> u32 {
        let (second_step, first_second, last_second) = gaps(self.seconds);
        let (minute_step, first_minute, last_minute) = gaps(self.minutes);
        let (hour_step, first_hour, last_hour) = gaps(self.hours);
        let in_minute = last_second - first_second;
        let in_hour = (last_minute - first_minute) * 60 + in_minute;
        let in_day = (last_hour - first_hour) * 3_600 + in_hour;
        let steps = [second_step, minute_step.map(|step| step * 60 - in_minute), hour_step.map(|step| step * 3_600 - in_hour), Some(86_400 - in_day)];
        steps.into_iter().flatten().min().unwrap_or(86_400)
    }

    /// The first wall-clock time that fits, from this one on.
    pub fn first_from(&self, from: NaiveDateTime) -> Option<NaiveDateTime> {
        let (mut day, mut time) = (from.date(), self.time_from(from.time()));
        let years = day.year()..=day.year() + CALENDAR_YEARS;
        while years.contains(&day.year()) {
            if !has(self.months, day.month()) {
                day = day.with_day(1)?.checked_add_months(Months::new(1))?;
            } else if let Some(time) = time.filter(|_| self.fits_day(day)) {
                return Some(day.and_time(time));
            } else {
                day = day.checked_add_days(Days::new(1))?;
            }
            time = self.time_from(NaiveTime::MIN);
        }
        None
    }

    fn fits_day(&self, day: NaiveDate) -> bool {
        let (of_month, of_week) = (has(self.days, day.day()), has(self.weekdays, day.weekday().num_days_from_sunday()));
        if self.either_day { of_month || of_week } else { of_month && of_week }
    }

    /// The first time of day that fits, from this one on.
    fn time_from(&self, from: NaiveTime) -> Option<NaiveTime> {
        let first = |set: u64| set.trailing_zeros();
        let (hour, minute, second) = (from.hour(), from.minute(), from.second());
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = from_bit(self.seconds, second)
            {
                return NaiveTime::from_hms_opt(hour, minute, second);
            }
            if let Some(minute) = from_bit(self.minutes, minute + 1) {
                return NaiveTime::from_hms_opt(hour, minute, first(self.seconds));
            }
        }
        NaiveTime::from_hms_opt(from_bit(self.hours, hour + 1)?, first(self.minutes), first(self.seconds))
    }
}

fn has(set: u64, number: u32) -> bool {
    set >> number & 1 == 1
}

/// The least number of the set that is not below `from`, which is less than 64.
fn from_bit(set: u64, from: u32) -> Option<u32> {
    let rest = set >> from << from;
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The least distance of two neighbours in the set, its first and its last number.
fn gaps(set: u64) -> (Option<u32>, u32, u32) {
    let numbers: Vec<u32> = (0..64).filter(|number| has(set, *number)).collect();
    let least = numbers.windows(2).map(|pair| pair[1] - pair[0]).min();
    (least, numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0))
}
