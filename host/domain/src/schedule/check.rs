//! What is wrong with the fields of a schedule.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::ScheduleType;
use super::cron::Cron;
use super::zone::Zone;
use crate::definition::{DefinitionSpec, FieldError};

/// Seconds between firings, and between rounds.
pub const INTERVAL_SEC: RangeInclusive<u32> = 1..=31_536_000;
/// Seconds by which a root may run later than its instant.
pub const JITTER_SEC_MAX: u32 = 3_600;
/// No schedule fires more often, whatever the operator allows.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// Every field of the schedule that is out of bounds.
pub fn check(spec: &DefinitionSpec) -> Vec<FieldError> {
    let mut errors = Errors(Vec::new());
    let only_with = |kinds: &[ScheduleType]| {
        let fits = kinds.contains(&spec.schedule_type);
        let message = format!("only with schedule_type {}", kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or "));
        move |errors: &mut Errors, given: bool, pointer| errors.need(fits || !given, pointer, &message)
    };
    let for_cron = only_with(&[ScheduleType::Cron]);
    for_cron(&mut errors, spec.cron_expr.is_some(), "/cron_expr");
    for_cron(&mut errors, spec.interval_sec.is_some(), "/interval_sec");
    for_cron(&mut errors, spec.starts_at.is_some(), "/starts_at");
    for_cron(&mut errors, spec.ends_at.is_some(), "/ends_at");
    only_with(&[ScheduleType::Loop])(&mut errors, spec.loop_config.is_some(), "/loop_config");
    only_with(&[ScheduleType::Once, ScheduleType::Loop])(&mut errors, spec.run_at.is_some(), "/run_at");
    if let Err(unknown) = spec.timezone.parse::<Zone>() {
        errors.need(false, "/timezone", &unknown.to_string());
    }
    match spec.schedule_type {
        ScheduleType::Once => {}
        ScheduleType::Cron => check_cron(spec, &mut errors),
        ScheduleType::Loop => check_loop(spec, &mut errors),
    }
    errors.need(spec.jitter_sec <= JITTER_SEC_MAX, "/jitter_sec", &format!("at most {JITTER_SEC_MAX} seconds"));
    if let (Some(start), Some(end)) = (spec.starts_at, spec.ends_at) {
        errors.need(end > start, "/ends_at", "later than starts_at");
    }
    errors.0
}

/// What is wrong with a schedule that fires more often than once in `shortest`, which is the operator's to say.
pub fn too_often(spec: &DefinitionSpec, shortest: Duration) -> Option<FieldError> {
    let (pointer, period_sec) = period(spec)?;
    let short = Duration::from_secs(period_sec.into()) < shortest;
    short.then(|| {
        let least = shortest.as_secs_f64();
        let message = format!(
            "it would fire every {period_sec} seconds, and here nothing fires more often than every {least}: leave more time between firings, or have \
             the operator lower --schedule-interval-min"
        );
        FieldError { pointer, message }
    })
}

/// The field that says how often a CRON fires, and the shortest time between two firings in seconds; none: it says nothing that is sound.
fn period(spec: &DefinitionSpec) -> Option<(&'static str, u32)> {
    match (spec.schedule_type, &spec.cron_expr, spec.interval_sec) {
        (ScheduleType::Cron, Some(expr), None) => Some(("/cron_expr", expr.parse::<Cron>().ok()?.shortest_sec())),
        (ScheduleType::Cron, None, Some(interval)) => Some(("/interval_sec", interval)),
        _ => None,
    }
}

struct Errors(Vec<FieldError>);

impl Errors {
    fn need(&mut self, ok: bool, pointer: &'static str, message: &str) {
        if !ok {
            self.0.push(FieldError { pointer, message: message.to_owned() });
        }
    }
}

fn check_cron(spec: &DefinitionSpec, errors: &mut Errors) {
    let period_sec = match (&spec.cron_expr, spec.interval_sec) {
        (Some(_), Some(_)) => return errors.need(false, "/interval_sec", "either cron_expr or interval_sec, not both"),
        (None, None) => return errors.need(false, "/cron_expr", "schedule_type CRON needs cron_expr or interval_sec"),
        (Some(expr), None) => match expr.parse::<Cron>() {
            Ok(cron) => cron.shortest_sec(),
            Err(bad) => return errors.need(false, "/cron_expr", &bad.to_string()),
        },
        (None, Some(interval)) if !INTERVAL_SEC.contains(&interval) => {
            return errors.need(false, "/interval_sec", &format!("{} to {} seconds", INTERVAL_SEC.start(), INTERVAL_SEC.end()));
        }
        (None, Some(interval)) => interval,
    };
    errors.need(spec.jitter_sec < period_sec, "/jitter_sec", &format!("less than the {period_sec} seconds between two firings"));
}

fn check_loop(spec: &DefinitionSpec, errors: &mut Errors) {
    let Some(rounds) = spec.loop_config else {
        return errors.need(false, "/loop_config", "schedule_type LOOP needs it: rounds without an end and without a pause are refused");
    };
    errors.need(rounds.max_rounds != Some(0), "/loop_config/max_rounds", "at least 1");
    errors.need(rounds.interval_sec <= *INTERVAL_SEC.end(), "/loop_config/interval_sec", &format!("at most {} seconds", INTERVAL_SEC.end()));
    let bounded = rounds.max_rounds.is_some() || rounds.interval_sec > 0;
    errors.need(bounded, "/loop_config", "max_rounds, or an interval_sec of at least 1: rounds without an end and without a pause are refused");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(fields: &str) -> Vec<&'static str> {
        let text = format!(r#"{{"actor_type":"AGENT","code_ref":"wasm://x",{fields}}}"#);
        let spec: DefinitionSpec = serde_json::from_str(&text).unwrap();
        let errors = spec.check();
        assert!(errors.iter().all(|error| !error.message.is_empty()));
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn each_field_is_held_against_the_kind_of_schedule_and_its_bounds() {
        const CRON: &str = r#""schedule_type":"CRON""#;
        const LOOP: &str = r#""schedule_type":"LOOP""#;
        for (fields, pointers) in [
            (r#""role":"""#.to_owned(), &[][..]),
            (format!(r#"{CRON},"cron_expr":"@daily","timezone":"Europe/Berlin","jitter_sec":3600,"misfire":"FIRE_ALL","overlap":"QUEUE""#), &[]),
            (format!(r#"{CRON},"interval_sec":1,"starts_at":"2026-01-01T00:00:00Z","ends_at":"2026-01-02T00:00:00Z""#), &[]),
            (format!(r#"{LOOP},"loop_config":{{"max_rounds":3}},"run_at":"2026-01-01T00:00:00Z""#), &[]),
            (format!(r#"{LOOP},"loop_config":{{"interval_sec":5}}"#), &[]),
            (CRON.to_owned(), &["/cron_expr"]),
            (format!(r#"{CRON},"cron_expr":"@daily","interval_sec":5"#), &["/interval_sec"]),
            (format!(r#"{CRON},"cron_expr":"every day""#), &["/cron_expr"]),
            (format!(r#"{CRON},"cron_expr":"0 0 30 2 *""#), &["/cron_expr"]),
            (format!(r#"{CRON},"interval_sec":0"#), &["/interval_sec"]),
            (format!(r#"{CRON},"interval_sec":31536001"#), &["/interval_sec"]),
            (format!(r#"{CRON},"interval_sec":60,"jitter_sec":60"#), &["/jitter_sec"]),
            (format!(r#"{CRON},"cron_expr":"@daily","jitter_sec":3601"#), &["/jitter_sec"]),
            (format!(r#"{CRON},"cron_expr":"*/20 * * * *","jitter_sec":1200"#), &["/jitter_sec"]),
            (format!(r#"{CRON},"cron_expr":"@daily","timezone":"Europe/Berln""#), &["/timezone"]),
            (format!(r#"{CRON},"cron_expr":"@daily","run_at":"2026-01-01T00:00:00Z""#), &["/run_at"]),
            (format!(r#"{CRON},"cron_expr":"@daily","loop_config":{{"max_rounds":3}}"#), &["/loop_config"]),
            (format!(r#"{CRON},"cron_expr":"@daily","starts_at":"2026-01-02T00:00:00Z","ends_at":"2026-01-02T00:00:00Z""#), &["/ends_at"]),
            (r#""cron_expr":"@daily""#.to_owned(), &["/cron_expr"]),
            (r#""interval_sec":5"#.to_owned(), &["/interval_sec"]),
            (LOOP.to_owned(), &["/loop_config"]),
            (format!(r#"{LOOP},"loop_config":{{}}"#), &["/loop_config"]),
            (format!(r#"{LOOP},"loop_config":{{"max_rounds":0}}"#), &["/loop_config/max_rounds"]),
            (format!(r#"{LOOP},"loop_config":{{"interval_sec":31536001}}"#), &["/loop_config/interval_sec"]),
        ] {
            assert_eq!(wrong(&fields), pointers, "{fields}");
        }
    }

    #[test]
    fn an_operators_minimum_is_held_against_the_shortest_time_between_firings() {
        let text = r#"{"actor_type":"AGENT","code_ref":"wasm://x","schedule_type":"CRON","cron_expr":"*/10 * * * * *"}"#;
        let spec: DefinitionSpec = serde_json::from_str(text).unwrap();
        assert_eq!(too_often(&spec, Duration::from_secs(10)), None);
        let refused = too_often(&spec, Duration::from_secs(11)).unwrap();
        assert_eq!(refused.pointer, "/cron_expr");
        assert!(refused.message.contains("every 10 seconds") && refused.message.contains("every 11:"), "{}", refused.message);
        let spec = DefinitionSpec { cron_expr: None, interval_sec: Some(59), ..spec };
        assert_eq!(too_often(&spec, Duration::from_secs(60)).unwrap().pointer, "/interval_sec");
        assert_eq!(too_often(&DefinitionSpec { schedule_type: ScheduleType::Once, ..spec }, Duration::from_secs(60)), None);
    }

    #[test]
    fn what_was_stored_earlier_reads_and_is_written_as_before() {
        let text = r#"{"actor_type":"AGENT","code_ref":"wasm://x","is_active":true,"labels":{}}"#;
        let spec: DefinitionSpec = serde_json::from_str(text).unwrap();
        let written = serde_json::to_string(&spec).unwrap();
        assert!(written.ends_with(r#""is_active":true,"labels":{}}"#), "{written}");
    }
}
