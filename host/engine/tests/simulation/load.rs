//! What clients ask of hosts: drawn from the seed, asked again elsewhere while nobody answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tower_domain::code_ref::CodeRef;
use tower_domain::definition::DefinitionSpec;
use tower_domain::event::EventType;
use tower_domain::id::TraceId;
use tower_domain::json::Json;
use tower_domain::name::Name;
use tower_domain::trace::TriggerType;
use tower_engine::Engine;
use tower_engine::orders::{Control, ControlRequest, EventVerdict, IdempotencyKey, OrderError, PostedEvent, RerunRequest, Trigger, TriggerError, Triggered};
use tower_engine::schedules::ScheduleWish;

use crate::book::{Book, What};
use crate::dice::Dice;
use crate::life::Life;
use crate::steps::Script;

/// Definitions that are triggered.
const BY_HAND: [&str; 7] = ["work", "work", "narrow", "rated", "keyed", "nightly", "elsewhere"];
/// The queue of what runs in a lane of its own.
pub(crate) const QUEUE: &str = "hands";
/// Definitions that fire by themselves.
pub(crate) const FIRE: [&str; 5] = ["cron-allow", "cron-skip", "cron-queue", "cron-cancel", "looping"];

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

/// Every definition, with what it says beside the same for all.
pub(crate) fn definitions(dice: &mut Dice, jitter: bool) -> Vec<(&'static str, DefinitionSpec)> {
    let mut cron = |overlap: &str| {
        let misfire = dice.pick(&["FIRE_ONCE", "SKIP", "FIRE_ONCE", "FIRE_ALL"]).expect("some");
        let (every, ms) = (dice.between(3, 9), dice.between(0, 5_000));
        let jitter = if jitter && dice.one_in(3) { 2 } else { 0 };
        let params = format!(r#""default_params":{{"ms":{ms}}},"jitter_sec":{jitter}"#);
        spec(format!(r#","schedule_type":"CRON","cron_expr":"*/{every} * * * * *","overlap":"{overlap}","misfire":"{misfire}",{params}"#))
    };
    vec![
        ("cron-allow", cron("ALLOW")),
        ("cron-skip", cron("SKIP")),
        ("cron-queue", cron("QUEUE")),
        ("cron-cancel", cron("CANCEL_PREVIOUS")),
        ("looping", spec(r#","schedule_type":"LOOP","loop_config":{"max_rounds":4,"interval_sec":1},"default_params":{"ms":300}"#.to_owned())),
        ("work", spec(String::new())),
        ("narrow", limited(dice.between(1, 3))),
        ("rated", spec(r#","rate_limit":{"max":3,"per_sec":1}"#.to_owned())),
        ("keyed", spec(r#","concurrency_key":"/who","max_concurrent_per_key":1"#.to_owned())),
        ("nightly", spec(r#","window":"NIGHTLY""#.to_owned())),
        ("elsewhere", DefinitionSpec { code_ref: CodeRef::Queue(name(QUEUE)), ..spec(String::new()) }),
    ]
}

fn limited(most: u64) -> DefinitionSpec {
    spec(format!(r#","max_concurrent":{most}"#))
}

/// Retries without jitter: that is not drawn from the seed.
fn spec(more: String) -> DefinitionSpec {
    let retry = r#""retry":{"initial_sec":0.3,"factor":2,"max_sec":1,"jitter":false},"max_retries":2"#;
    let text = format!(r#"{{"actor_type":"AGENT","code_ref":"wasm://x",{retry}{more}}}"#);
    serde_json::from_str(&text).expect("a good definition")
}

/// A wish.
pub(crate) fn wish(dice: &mut Dice, book: &Book, hosts: &[String]) -> Option<What> {
    let known = book.acknowledged();
    let number = book.asks.len();
    Some(match dice.below(30) {
        0..14 => {
            let definition = dice.pick(&BY_HAND)?;
            let params = serde_json::to_string(&script(dice, 2)).expect("a script is JSON");
            What::Trigger { definition, params, key: format!("ask-{number}") }
        }
        14 => What::Rerun { trace: dice.pick(&known)?, key: format!("ask-{number}") },
        15..19 => {
            let (trace, task) = dice.pick(&book.runs.iter().rev().take(20).map(|run| (run.trace, run.task)).collect::<Vec<_>>())?;
            What::Tell { trace, task, event: format!("event-{number}"), percent: dice.below(101) }
        }
        19..24 => {
            let control = dice.pick(&[Control::Cancel, Control::Pause, Control::Resume, Control::Resume])?;
            let (trace, task) = match dice.one_in(2) {
                true => (dice.pick(&known)?, None),
                false => {
                    let (trace, task) = dice.pick(&book.runs.iter().map(|run| (run.trace, run.task)).collect::<Vec<_>>())?;
                    (trace, Some(task))
                }
            };
            What::Order { control, trace, task }
        }
        24 => {
            let wish = dice.pick(&[ScheduleWish::Pause, ScheduleWish::Resume, ScheduleWish::Resume])?;
            What::Schedule { definition: dice.pick(&FIRE)?, wish }
        }
        25 => What::Drain { host: dice.pick(hosts)?, draining: dice.one_in(2) },
        26 => What::Limit { most: dice.between(1, 4) },
        _ => What::Follow { trace: dice.pick(&known)? },
    })
}

fn script(dice: &mut Dice, deeper: u32) -> Script {
    let many = if deeper > 0 && dice.one_in(3) { dice.between(1, 5) } else { 0 };
    let ms = match dice.below(8) {
        0 => 0,
        1..7 => dice.between(1, 900),
        _ => dice.between(900, 5_000),
    };
    let kids = (0..many)
        .map(|_| (dice.pick(&["work", "work", "work", "narrow", "keyed", "rated", "elsewhere"]).expect("some").to_owned(), script(dice, deeper - 1)))
        .collect();
    let fail = if dice.one_in(5) { u32::try_from(dice.between(1, 4)).unwrap_or(1) } else { 0 };
    Script { ms, fail, fatal: dice.one_in(4), listens: dice.one_in(3), chain: dice.one_in(3), kids, by: 0, who: dice.below(3) }
}

/// Asks a host, and writes down the answer if there is one.
pub(crate) async fn ask(engine: Engine, life: Arc<Life>, number: usize, what: What) {
    let answer = answer_of(&engine, &what).await;
    if life.is_dead() {
        // Nobody hears it.
        return;
    }
    life.common.note(life.at(), &format!("{} answers {number}: {answer:?}", life.name));
    let mut book = life.common.book.lock();
    let ask = &mut book.asks[number];
    match answer {
        Answer::Again => {}
        Answer::Done => ask.done = true,
        Answer::Begun(trace) => {
            ask.done = true;
            ask.begun.insert(trace);
        }
        Answer::Accepted => {
            ask.done = true;
            ask.accepted += 1;
        }
        Answer::Duplicate => {
            ask.done = true;
            ask.duplicate += 1;
        }
        Answer::Odd(why) => {
            ask.done = true;
            book.odd.push(format!("{what:?} was answered with {why}"));
        }
    }
}

#[derive(Debug)]
enum Answer {
    /// The host could not; another may.
    Again,
    Done,
    Begun(TraceId),
    Accepted,
    Duplicate,
    Odd(String),
}

async fn answer_of(engine: &Engine, what: &What) -> Answer {
    let by = "client".to_owned();
    match what {
        What::Trigger { definition, params, key } => {
            let trigger = Trigger {
                definition_id: name(definition),
                params: Json::trusted(params.clone()),
                priority: None,
                run_at: None,
                window: None,
                user_id: Some("somebody".to_owned()),
                labels: BTreeMap::new(),
                trigger_type: TriggerType::Api,
                triggered_by: by,
                idempotency_key: Some(key_of(key)),
                session_id: None,
            };
            match engine.trigger(trigger).await {
                Ok(Triggered { trace_id, .. }) => Answer::Begun(trace_id),
                Err(TriggerError::Store(_) | TriggerError::ShuttingDown) => Answer::Again,
                Err(other) => Answer::Odd(other.to_string()),
            }
        }
        What::Rerun { trace, key } => match engine.rerun(RerunRequest::retry(*trace, "client", "again", Some(key_of(key)))).await {
            Ok(Triggered { trace_id, .. }) => Answer::Begun(trace_id),
            Err(OrderError::Store(_) | OrderError::ShuttingDown) => Answer::Again,
            Err(OrderError::NotEnded(_) | OrderError::NothingToRetry(_)) => Answer::Done,
            Err(other) => Answer::Odd(other.to_string()),
        },
        What::Tell { trace, task, event, percent } => {
            let payload = Some(Json::trusted(format!("{{\"percent\":{percent}}}")));
            let posted = PostedEvent { event_id: event.clone(), trace_id: Some(*trace), task_id: *task, event_type: EventType::Progress, payload };
            match engine.post_events(vec![posted]).await.as_deref() {
                Ok([EventVerdict::Accepted]) => Answer::Accepted,
                Ok([EventVerdict::Duplicate]) => Answer::Duplicate,
                Ok([EventVerdict::Stale { .. }]) => Answer::Done,
                Err(OrderError::Store(_) | OrderError::ShuttingDown) => Answer::Again,
                other => Answer::Odd(format!("{other:?}")),
            }
        }
        What::Order { control, trace, task } => {
            let request = ControlRequest { control: *control, trace_id: *trace, task_id: *task, triggered_by: by, reason: "so".to_owned() };
            match engine.control(request).await {
                Ok(_) | Err(OrderError::Store(_) | OrderError::ShuttingDown) => Answer::Done,
                Err(other) => Answer::Odd(other.to_string()),
            }
        }
        What::Schedule { definition, wish } => {
            let _ = engine.order_schedule(&name(definition), *wish, "client", "so").await;
            Answer::Done
        }
        What::Drain { host, draining } => {
            let _ = engine.drain_host(host, *draining).await;
            Answer::Done
        }
        What::Limit { most } => {
            let _ = engine.put_definition(&name("narrow"), limited(*most), None).await;
            Answer::Done
        }
        What::Follow { trace } => follow(engine, *trace).await,
    }
}

/// Reads a trace's events for a while, as they come.
async fn follow(engine: &Engine, trace: TraceId) -> Answer {
    let mut follow = engine.follow(trace, 0);
    let mut seen = 0;
    let read = async {
        while let Some(Ok(events)) = follow.next().await {
            for event in events {
                seen += 1;
                if event.seq != seen {
                    return Answer::Odd(format!("event {} where {seen} was due", event.seq));
                }
            }
        }
        Answer::Done
    };
    tokio::time::timeout(Duration::from_secs(8), read).await.unwrap_or(Answer::Done)
}

fn key_of(key: &str) -> IdempotencyKey {
    let mut fingerprint = [0; 32];
    fingerprint[..key.len()].copy_from_slice(key.as_bytes());
    IdempotencyKey { key: key.to_owned(), fingerprint }
}
