//! The cron dialect and the next instant: a table, and a comparison with looking at every minute.

use chrono::{DateTime, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::cron::Cron;
use super::next::next_of;
use super::zone::Zone;

fn utc(text: &str) -> DateTime<Utc> {
    let text = if text.len() == 16 { format!("{text}:00") } else { text.to_owned() };
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S").unwrap_or_else(|error| panic!("{text}: {error}")).and_utc()
}

/// The first instants after `from`, without those seconds that are zero.
fn firings(expr: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
    let (cron, zone): (Cron, Zone) = (expr.parse().unwrap_or_else(|error| panic!("{expr}: {error}")), zone.parse().unwrap());
    let instants = std::iter::successors(next_of(&cron, zone, utc(from)), |last| next_of(&cron, zone, *last));
    instants.take(n).map(|at| at.format("%Y-%m-%dT%H:%M:%S").to_string().trim_end_matches(":00").to_owned()).map(whole).collect()
}

/// `:00` belongs to the minute where nothing else is left.
fn whole(text: String) -> String {
    match text.len() {
        13 => text + ":00",
        _ => text,
    }
}

/// Expression, zone, an instant, and the firings after it; all in UTC.
const TABLE: &[(&str, &str, &str, &[&str])] = &[
    // The dialect.
    ("* * * * *", "UTC", "2026-03-01T00:00", &["2026-03-01T00:01", "2026-03-01T00:02"]),
    ("* * * * *", "UTC", "2026-03-01T00:00:59", &["2026-03-01T00:01"]),
    ("* * * * * *", "UTC", "2026-12-31T23:59:58", &["2026-12-31T23:59:59", "2027-01-01T00:00", "2027-01-01T00:00:01"]),
    ("*/20 * * * * *", "UTC", "2026-03-01T00:00:10", &["2026-03-01T00:00:20", "2026-03-01T00:00:40", "2026-03-01T00:01"]),
    ("5 */30 * * * *", "UTC", "2026-03-01T00:00:10", &["2026-03-01T00:30:05", "2026-03-01T01:00:05"]),
    ("*/15 * * * *", "UTC", "2026-03-01T00:50", &["2026-03-01T01:00", "2026-03-01T01:15"]),
    ("*/25 * * * *", "UTC", "2026-03-01T00:26", &["2026-03-01T00:50", "2026-03-01T01:00"]),
    ("10/20 * * * *", "UTC", "2026-03-01T00:00", &["2026-03-01T00:10", "2026-03-01T00:30", "2026-03-01T00:50", "2026-03-01T01:10"]),
    ("10-20/5 * * * *", "UTC", "2026-03-01T00:12", &["2026-03-01T00:15", "2026-03-01T00:20", "2026-03-01T01:10"]),
    ("1,2,59 * * * *", "UTC", "2026-03-01T00:01", &["2026-03-01T00:02", "2026-03-01T00:59"]),
    ("0 9-11,17 * * *", "UTC", "2026-03-01T10:00", &["2026-03-01T11:00", "2026-03-01T17:00", "2026-03-02T09:00"]),
    ("30 8 * * MON-FRI", "UTC", "2026-03-06T09:00", &["2026-03-09T08:30", "2026-03-10T08:30"]),
    ("30 8 * * 1-5", "UTC", "2026-03-06T09:00", &["2026-03-09T08:30"]),
    ("0 0 * * 0", "UTC", "2026-03-02T00:00", &["2026-03-08T00:00"]),
    ("0 0 * * 7", "UTC", "2026-03-02T00:00", &["2026-03-08T00:00"]),
    ("0 0 * * SUN", "UTC", "2026-03-02T00:00", &["2026-03-08T00:00"]),
    ("0 0 * * 1", "UTC", "2026-03-01T00:00", &["2026-03-02T00:00", "2026-03-09T00:00"]),
    ("0 0 * * 5-7", "UTC", "2026-03-02T00:00", &["2026-03-06T00:00", "2026-03-07T00:00", "2026-03-08T00:00", "2026-03-13T00:00"]),
    ("0 0 * * fri-mon", "UTC", "2026-03-03T00:00", &["2026-03-06T00:00", "2026-03-07T00:00", "2026-03-08T00:00", "2026-03-09T00:00", "2026-03-13T00:00"]),
    ("0 0 * * */2", "UTC", "2026-03-01T00:00", &["2026-03-03T00:00", "2026-03-05T00:00", "2026-03-07T00:00", "2026-03-08T00:00"]),
    ("0 0 1 jan,JUL *", "UTC", "2026-03-01T00:00", &["2026-07-01T00:00", "2027-01-01T00:00"]),
    ("0 0 1 11-12 *", "UTC", "2026-03-01T00:00", &["2026-11-01T00:00", "2026-12-01T00:00", "2027-11-01T00:00"]),
    ("0 0 ? * ?", "UTC", "2026-03-01T00:00", &["2026-03-02T00:00"]),
    ("0 12 ? * WED", "UTC", "2026-03-01T00:00", &["2026-03-04T12:00"]),
    ("  0   12  * * *  ", "UTC", "2026-03-01T00:00", &["2026-03-01T12:00"]),
    // Either of two restricted day fields; both where one begins with a star.
    (
        "0 0 13 * FRI",
        "UTC",
        "2026-02-28T00:00",
        &["2026-03-06T00:00", "2026-03-13T00:00", "2026-03-20T00:00", "2026-03-27T00:00", "2026-04-03T00:00", "2026-04-10T00:00", "2026-04-13T00:00"],
    ),
    ("0 0 1,15 * 3", "UTC", "2026-03-01T00:00", &["2026-03-04T00:00", "2026-03-11T00:00", "2026-03-15T00:00"]),
    ("0 0 */2 * MON", "UTC", "2026-03-01T00:00", &["2026-03-09T00:00", "2026-03-23T00:00"]),
    ("0 0 30 2 MON", "UTC", "2026-01-31T00:00", &["2026-02-02T00:00", "2026-02-09T00:00"]),
    // A star in the day of month restricts nothing, with a step of one or without.
    ("0 18 */1 * FRI", "UTC", "2026-03-21T00:00", &["2026-03-27T18:00", "2026-04-03T18:00"]),
    // Names.
    ("@hourly", "UTC", "2026-03-01T00:30", &["2026-03-01T01:00", "2026-03-01T02:00"]),
    ("@daily", "UTC", "2026-03-01T00:30", &["2026-03-02T00:00"]),
    ("@midnight", "Asia/Shanghai", "2026-03-01T00:30", &["2026-03-01T16:00"]),
    ("@weekly", "UTC", "2026-03-01T00:30", &["2026-03-08T00:00"]),
    ("@monthly", "UTC", "2026-03-01T00:30", &["2026-04-01T00:00"]),
    ("@yearly", "UTC", "2026-03-01T00:30", &["2027-01-01T00:00"]),
    ("@Annually", "UTC", "2026-03-01T00:30", &["2027-01-01T00:00"]),
    // The calendar.
    ("0 0 29 2 *", "UTC", "2026-03-01T00:00", &["2028-02-29T00:00", "2032-02-29T00:00"]),
    ("0 0 29 2 *", "UTC", "2096-03-01T00:00", &["2104-02-29T00:00"]),
    ("0 0 29 2 */7", "UTC", "2026-03-01T00:00", &["2032-02-29T00:00", "2060-02-29T00:00"]),
    ("0 0 31 * *", "UTC", "2026-03-31T00:00", &["2026-05-31T00:00", "2026-07-31T00:00", "2026-08-31T00:00", "2026-10-31T00:00"]),
    ("59 23 31 12 *", "UTC", "2026-12-31T23:59", &["2027-12-31T23:59"]),
    ("0 0 1 1 *", "Pacific/Kiritimati", "2026-06-01T00:00", &["2026-12-31T10:00"]),
    // Zones without changes.
    ("30 9 * * *", "Asia/Kolkata", "2026-03-01T00:00", &["2026-03-01T04:00", "2026-03-02T04:00"]),
    ("*/30 * * * *", "Asia/Kathmandu", "2026-03-01T00:00", &["2026-03-01T00:15", "2026-03-01T00:45"]),
    ("0 8 * * MON", "Asia/Shanghai", "2026-03-01T00:00", &["2026-03-02T00:00", "2026-03-09T00:00"]),
    // Berlin, forward 2026-03-29 02:00 to 03:00 (01:00 UTC), back 2026-10-25 03:00 to 02:00 (01:00 UTC).
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00", &["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]),
    ("0 2 * * *", "Europe/Berlin", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T00:00"]),
    ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T01:00"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T00:00"]),
    ("*/20 2 * * *", "Europe/Berlin", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T00:00", "2026-03-30T00:20"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", &["2026-10-25T00:30", "2026-10-26T01:30"]),
    ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", &["2026-10-26T01:30"]),
    ("0 3 * * *", "Europe/Berlin", "2026-10-24T12:00", &["2026-10-25T02:00", "2026-10-26T02:00"]),
    ("30 2 29 3 *", "Europe/Berlin", "2026-01-01T00:00", &["2026-03-29T01:00", "2027-03-29T00:30"]),
    ("0 * * * *", "Europe/Berlin", "2026-03-28T23:30", &["2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"]),
    ("30 * * * *", "Europe/Berlin", "2026-10-24T23:00", &["2026-10-24T23:30", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"]),
    ("30 * * * *", "Europe/Berlin", "2026-10-25T00:45", &["2026-10-25T01:30"]),
    ("*/20 * * * *", "Europe/Berlin", "2026-10-25T00:35", &["2026-10-25T00:40", "2026-10-25T01:00", "2026-10-25T01:20"]),
    // New York, forward 2026-03-08 02:00 (07:00 UTC), back 2026-11-01 02:00 (06:00 UTC).
    ("30 2 * * *", "America/New_York", "2026-03-07T12:00", &["2026-03-08T07:00", "2026-03-09T06:30"]),
    ("30 1 * * *", "America/New_York", "2026-10-31T12:00", &["2026-11-01T05:30", "2026-11-02T06:30"]),
    ("30 1 * * *", "America/New_York", "2026-11-01T06:05", &["2026-11-02T06:30"]),
    ("20 * * * *", "America/New_York", "2026-11-01T06:05", &["2026-11-01T06:20", "2026-11-01T07:20"]),
    ("0 */2 * * *", "America/New_York", "2026-03-08T04:00", &["2026-03-08T05:00", "2026-03-08T07:00", "2026-03-08T08:00"]),
    ("0 */2 * * *", "America/New_York", "2026-11-01T03:59", &["2026-11-01T04:00", "2026-11-01T07:00"]),
    ("0 0 * * *", "America/New_York", "2026-10-31T12:00", &["2026-11-01T04:00", "2026-11-02T05:00"]),
    // São Paulo changed at midnight: forward 2018-11-04 00:00 to 01:00 (03:00 UTC), back 2018-02-18 00:00 to 2018-02-17 23:00 (02:00 UTC).
    ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00", &["2018-11-04T03:00", "2018-11-05T02:00"]),
    ("30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00", &["2018-02-18T01:30", "2018-02-19T02:30"]),
    ("30 0 * * SUN", "America/Sao_Paulo", "2018-11-03T12:00", &["2018-11-04T03:00", "2018-11-11T02:30"]),
    ("30 * * * *", "America/Sao_Paulo", "2018-02-18T01:00", &["2018-02-18T01:30", "2018-02-18T02:30", "2018-02-18T03:30"]),
    // Lord Howe goes half an hour: forward 2026-10-04 02:00 to 02:30 (2026-10-03 15:30 UTC), back 2026-04-05 02:00 to 01:30 (2026-04-04 15:00 UTC).
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", &["2026-10-03T15:30", "2026-10-04T15:15"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00", &["2026-04-04T14:45", "2026-04-05T15:15"]),
    ("45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00", &["2026-04-04T14:45", "2026-04-04T15:15", "2026-04-04T16:15"]),
    ("15 * * * *", "Australia/Lord_Howe", "2026-10-03T14:00", &["2026-10-03T14:45", "2026-10-03T16:15"]),
    // Casablanca goes back for Ramadan: 2026-02-15 03:00 to 02:00 (02:00 UTC), forward 2026-03-22 02:00 to 03:00 (02:00 UTC).
    ("30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00", &["2026-02-15T01:30", "2026-02-16T02:30"]),
    ("30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00", &["2026-03-22T02:00", "2026-03-23T01:30"]),
    // Apia left out 2011-12-30: 2011-12-29 24:00 is 2011-12-31 00:00 (10:00 UTC).
    ("0 9 * * *", "Pacific/Apia", "2011-12-29T00:00", &["2011-12-29T19:00", "2011-12-30T10:00", "2011-12-30T19:00"]),
    ("0 9 30 12 *", "Pacific/Apia", "2011-12-01T00:00", &["2011-12-30T10:00", "2012-12-29T19:00"]),
    ("0 * * * *", "Pacific/Apia", "2011-12-30T08:30", &["2011-12-30T09:00", "2011-12-30T10:00", "2011-12-30T11:00"]),
    // Troll goes two hours: forward 2026-03-29 01:00 to 03:00 (01:00 UTC), back 2026-10-25 03:00 to 01:00 (01:00 UTC).
    ("30 1 * * *", "Antarctica/Troll", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-29T23:30"]),
    ("30 * * * *", "Antarctica/Troll", "2026-10-25T00:00", &["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30", "2026-10-25T03:30"]),
];

#[test]
fn firings_are_those_of_the_table() {
    assert!(TABLE.len() >= 60);
    for (expr, zone, from, expected) in TABLE {
        assert_eq!(firings(expr, zone, from, expected.len()), *expected, "`{expr}` in {zone} after {from}");
    }
}

#[test]
fn what_is_no_expression_is_refused_with_the_field_that_is_wrong() {
    for (expr, says) in [
        ("", "five fields"),
        ("* * * *", "five fields"),
        ("* * * * * * *", "five fields"),
        ("60 * * * *", "minute: `60` is no number from 0 to 59"),
        ("* 24 * * *", "hour: `24`"),
        ("* * 0 * *", "day of month: `0`"),
        ("* * 32 * *", "day of month: `32`"),
        ("* * * 13 *", "month: `13`"),
        ("* * * FOO *", "none of JAN, FEB"),
        ("* * * * 8", "day of week: `8`"),
        ("60 * * * * *", "second: `60`"),
        ("*/0 * * * *", "has a step"),
        ("*/-1 * * * *", "has a step"),
        ("*/ * * * *", "has a step"),
        ("*/1/2 * * * *", "has a step"),
        ("20-10 * * * *", "from its end"),
        ("1,,2 * * * *", "minute: ``"),
        ("1-2-3 * * * *", "minute: `2-3`"),
        ("+1 * * * *", "minute: `+1`"),
        ("MON * * * *", "minute: `MON`"),
        ("0 0 L * *", "day of month: `L`"),
        ("0 0 * * FRI#2", "day of week: `FRI#2`"),
        ("@reboot", "none of @yearly"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 30 FEB ?", "never fires"),
    ] {
        let refused = expr.parse::<Cron>().expect_err(expr).to_string();
        assert!(refused.contains(says), "`{expr}`: {refused}");
    }
    assert!("* ".repeat(400).parse::<Cron>().unwrap_err().to_string().contains("256 bytes"));
}

#[test]
fn an_unknown_zone_is_refused_with_one_that_looks_like_it() {
    for (name, nearest) in
        [("Europe/Berln", Some("Europe/Berlin")), ("new york", Some("America/New_York")), ("europe/berlin", Some("Europe/Berlin")), ("xyzzy", None)]
    {
        assert_eq!(name.parse::<Zone>().unwrap_err().nearest, nearest, "{name}");
    }
}

#[test]
fn the_shortest_time_between_firings_is_known() {
    for (expr, shortest) in [
        ("* * * * * *", 1),
        ("*/7 * * * * *", 4),
        ("0 * * * * *", 60),
        ("*/25 * * * *", 600),
        ("0,30 */6 * * *", 1_800),
        ("0 9,17 * * *", 28_800),
        ("50 23 * * *", 86_400),
        ("10,20 0 0,23 * * *", 10),
        ("0 0 0,23 * * *", 3_600),
    ] {
        assert_eq!(expr.parse::<Cron>().unwrap().shortest_sec(), shortest, "{expr}");
    }
}

/// An item of a field, as text and as what it means.
fn item(low: u32, high: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let number = (low..=high).prop_map(|number| (number.to_string(), vec![number]));
    let range = (low..=high, low..=high).prop_map(|(a, b)| (a.min(b), a.max(b))).prop_map(|(a, b)| (format!("{a}-{b}"), (a..=b).collect()));
    let step = (1..=high).prop_map(move |step| (format!("*/{step}"), (low..=high).step_by(step as usize).collect()));
    prop_oneof![4 => number, 2 => range, 2 => step]
}

/// A field: `*` more often than not.
fn field(low: u32, high: u32) -> impl Strategy<Value = (String, Vec<u32>)> {
    let list = prop::collection::vec(item(low, high), 1..3).prop_map(|items| {
        let (texts, numbers): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        (texts.join(","), numbers.concat())
    });
    prop_oneof![Just(("*".to_owned(), (low..=high).collect())), list]
}

/// What an expression means, told without the code that is tested.
#[derive(Debug)]
struct Meaning {
    text: String,
    sets: [Vec<u32>; 5],
}

fn meaning() -> impl Strategy<Value = Meaning> {
    (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)).prop_map(|fields| {
        let (minute, hour, day, month, weekday) = fields;
        let text = [&minute.0, &hour.0, &day.0, &month.0, &weekday.0].map(String::as_str).join(" ");
        Meaning { text, sets: [minute.1, hour.1, day.1, month.1, weekday.1] }
    })
}

impl Meaning {
    fn fits(&self, wall: NaiveDateTime) -> bool {
        use chrono::{Datelike, Timelike};
        let has = |field: usize, number: u32| self.sets[field].contains(&number);
        let mut fields = self.text.split(' ').skip(2);
        let stars = [fields.next(), fields.nth(1)].map(|field| field.unwrap().starts_with('*'));
        let (of_month, of_week) = (has(2, wall.day()), has(4, wall.weekday().num_days_from_sunday()));
        let day = if stars == [false, false] { of_month || of_week } else { of_month && of_week };
        has(0, wall.minute()) && has(1, wall.hour()) && day && has(3, wall.month())
    }

    /// Looks at each minute after `from`, in order. The instant of a change stands for what it skipped; a time that is shown for the
    /// second time counts for an expression of every hour alone.
    fn first_after(&self, zone: Tz, from: DateTime<Utc>, days: i64) -> Option<DateTime<Utc>> {
        let every = (0..24).all(|hour| self.sets[1].contains(&hour));
        let shown = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
        let begin = from.timestamp().div_euclid(60) + 1;
        let minutes = (begin..begin + days * 1_440).map(|minute| DateTime::from_timestamp(minute * 60, 0).unwrap());
        minutes.into_iter().find(|at| {
            let (before, now) = (shown(*at - TimeDelta::minutes(1)), shown(*at));
            let step = (now - before).num_minutes();
            let skipped = !every && step > 1 && (1..step).any(|minute| self.fits(before + TimeDelta::minutes(minute)));
            let repeated = || !every && (1..=180).any(|minute| shown(*at - TimeDelta::minutes(minute)) == now);
            skipped || self.fits(now) && !repeated()
        })
    }
}

/// Instants near which clocks change, and some at which they do not.
fn start() -> impl Strategy<Value = (Tz, DateTime<Utc>)> {
    let near = [
        (Tz::Europe__Berlin, "2026-03-29T01:00"),
        (Tz::Europe__Berlin, "2026-10-25T01:00"),
        (Tz::America__New_York, "2026-03-08T07:00"),
        (Tz::America__New_York, "2026-11-01T06:00"),
        (Tz::America__Sao_Paulo, "2018-11-04T03:00"),
        (Tz::America__Sao_Paulo, "2018-02-18T02:00"),
        (Tz::Australia__Lord_Howe, "2026-10-03T15:30"),
        (Tz::Australia__Lord_Howe, "2026-04-04T15:00"),
        (Tz::Africa__Casablanca, "2026-02-15T02:00"),
        (Tz::Antarctica__Troll, "2026-10-25T01:00"),
        (Tz::Pacific__Apia, "2011-12-30T10:00"),
        (Tz::Asia__Kolkata, "2026-06-30T18:30"),
        (Tz::UTC, "2028-02-29T00:00"),
    ];
    (prop::sample::select(near.to_vec()), -100_000_i64..100_000).prop_map(|((zone, at), second)| (zone, utc(at) + TimeDelta::seconds(second)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_next_instant_is_the_one_that_looking_at_each_minute_finds(meaning in meaning(), (tz, from) in start()) {
        let Ok(cron) = meaning.text.parse::<Cron>() else { return Ok(()) };
        let zone: Zone = tz.name().parse().unwrap();
        let mut last = from;
        for _ in 0..6 {
            let next = next_of(&cron, zone, last).unwrap();
            prop_assert!(next > last, "{} in {tz}: {next} after {last}", meaning.text);
            let looked = meaning.first_after(tz, last, 4);
            if next - last < TimeDelta::days(3) {
                prop_assert_eq!(Some(next), looked, "{} in {} after {}", meaning.text, tz, last);
            } else {
                prop_assert!(looked.is_none_or(|looked| looked == next), "{} in {tz} after {last}: {looked:?}, not {next}", meaning.text);
            }
            last = next;
        }
    }

    #[test]
    fn expressions_with_seconds_go_forward_and_fit(second in field(0, 59), (tz, from) in start()) {
        use chrono::Timelike;
        let cron: Cron = format!("{} * * * * *", second.0).parse().unwrap();
        let next = next_of(&cron, tz.name().parse().unwrap(), from).unwrap();
        let looked = (1..=60).map(|later| from + TimeDelta::seconds(later)).find(|at| second.1.contains(&tz.from_utc_datetime(&at.naive_utc()).second()));
        prop_assert_eq!(Some(next), looked);
    }
}
