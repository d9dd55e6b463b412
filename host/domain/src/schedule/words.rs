//! A schedule in a sentence, for people.

use std::time::Duration;

use super::cron::{Cron, MONTHS, WEEKDAYS};
use super::next::{Beat, Plan};
use super::zone::Zone;

const MONTH_NAMES: [&str; 12] = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAY_NAMES: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const _: () = assert!(MONTH_NAMES.len() == MONTHS.len() && WEEKDAY_NAMES.len() == WEEKDAYS.len());

impl Plan {
    /// When it fires.
    pub fn in_words(&self) -> String {
        match self.beat {
            Beat::At(at) => format!("once, at {at}"),
            Beat::Every(step) => format!("every {}", span(step)),
            Beat::Cron(cron, Zone::UTC) => format!("{}, UTC", cron.in_words()),
            Beat::Cron(cron, zone) => format!("{}, time of {zone}", cron.in_words()),
        }
    }
}

impl Cron {
    /// When it fires, by wall-clock time.
    pub fn in_words(&self) -> String {
        let [seconds, minutes, hours, days, months, weekdays] = self.sets();
        let mut text = time(&seconds, &minutes, &hours);
        let of_month = (days.len() < 31).then(|| format!("on day {} of the month", list(&days, |day| day.to_string())));
        let of_week = (weekdays.len() < 7).then(|| format!("on {}", list(&weekdays, |day| WEEKDAY_NAMES[day as usize].to_owned())));
        let day = match (of_month, of_week) {
            (Some(month), Some(week)) if self.is_either_day() => format!("{month} or {week}"),
            (Some(month), Some(week)) => format!("{month} if {}", week.replacen("on", "it is", 1)),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) if text.contains(':') => "every day".to_owned(),
            (None, None) => String::new(),
        };
        if !day.is_empty() {
            text.push(' ');
            text.push_str(&day);
        }
        if months.len() < 12 {
            text.push_str(&format!(" in {}", list(&months, |month| MONTH_NAMES[month as usize - 1].to_owned())));
        }
        text
    }
}

/// The part of a sentence that says the time of day.
fn time(seconds: &[u32], minutes: &[u32], hours: &[u32]) -> String {
    let of_hours = |text: String| match hours.len() {
        24 => text,
        _ => format!("{text} in hour {}", list(hours, |hour| format!("{hour:02}"))),
    };
    match (seconds, minutes) {
        ([0], [minute]) if hours.len() <= 4 => format!("at {}", list(hours, |hour| format!("{hour:02}:{minute:02}"))),
        ([second], [minute]) if hours.len() <= 4 => format!("at {}", list(hours, |hour| format!("{hour:02}:{minute:02}:{second:02}"))),
        ([0], [0]) => of_hours("every hour".to_owned()),
        ([0], _) => of_hours(every(minutes, "minute", "past the hour")),
        (_, minutes) if minutes.len() == 60 => of_hours(every(seconds, "second", "past the minute")),
        _ => of_hours(format!("{} {}", every(seconds, "second", "past the minute"), every(minutes, "minute", "past the hour").replacen("at ", "of ", 1))),
    }
}

/// Numbers below 60 as a step, if they are one, or as a list.
fn every(numbers: &[u32], unit: &str, past: &str) -> String {
    let step = 60 / u32::try_from(numbers.len()).unwrap_or(60).max(1);
    match numbers {
        _ if numbers.len() == 60 => format!("every {unit}"),
        _ if numbers.len() > 1 && numbers.iter().zip(0..).all(|(number, index)| *number == index * step) && 60 % numbers.len() == 0 => {
            format!("every {step} {unit}s")
        }
        [one] => format!("at {unit} {one} {past}"),
        _ => format!("at {unit}s {} {past}", list(numbers, |number| number.to_string())),
    }
}

/// `1, 3 to 5 and 9`.
fn list(numbers: &[u32], name: impl Fn(u32) -> String) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b);
    let mut parts = Vec::new();
    for run in runs {
        match run {
            [first, _, .., last] => parts.push(format!("{} to {}", name(*first), name(*last))),
            few => parts.extend(few.iter().map(|number| name(*number))),
        }
    }
    match parts.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => parts.concat(),
    }
}

fn span(span: Duration) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let (size, unit) = units.into_iter().find(|(size, _)| span.as_secs().is_multiple_of(*size)).unwrap_or((1, "second"));
    match span.as_secs() / size {
        1 => unit.to_owned(),
        count => format!("{count} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_told_in_words() {
        for (expr, words) in [
            ("* * * * * *", "every second"),
            ("*/10 * * * * *", "every 10 seconds"),
            ("* * * * *", "every minute"),
            ("*/15 * * * *", "every 15 minutes"),
            ("*/25 * * * *", "at minutes 0, 25 and 50 past the hour"),
            ("0 * * * *", "every hour"),
            ("20 * * * *", "at minute 20 past the hour"),
            ("*/20 9-17 * * 1-5", "every 20 minutes in hour 09 to 17 on Monday to Friday"),
            ("30 8 * * MON-FRI", "at 08:30 on Monday to Friday"),
            ("15 30 8 * * *", "at 08:30:15 every day"),
            ("0 9,17 * * *", "at 09:00 and 17:00 every day"),
            ("0 0 1,15 * *", "at 00:00 on day 1 and 15 of the month"),
            ("0 0 13 * FRI", "at 00:00 on day 13 of the month or on Friday"),
            (
                "0 0 */2 1,2,3,7 FRI",
                "at 00:00 on day 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29 and 31 of the month if it is Friday in January to March and July",
            ),
            ("5 * 3 * * *", "at second 5 past the minute in hour 03"),
            ("*/30 5 * * * *", "every 30 seconds of minute 5 past the hour"),
        ] {
            assert_eq!(expr.parse::<Cron>().unwrap().in_words(), words, "{expr}");
        }
        assert_eq!(
            (span(Duration::from_secs(90)), span(Duration::from_secs(7_200)), span(Duration::from_secs(86_400))),
            ("90 seconds".into(), "2 hours".into(), "day".into())
        );
    }
}
