//! Schedules in simulated time: the clock is set, and nothing waits for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod scripted;

use std::sync::Arc;
use std::time::Duration;

use scripted::{Scripted, config, name};
use tower_domain::clock::{ManualClock, Timestamp};
use tower_domain::control::ControlAction;
use tower_domain::definition::DefinitionSpec;
use tower_domain::id::MonotonicIds;
use tower_domain::schedule::{Schedule, ScheduleState};
use tower_domain::task::Status;
use tower_domain::trace::{Trace, TriggerType};
use tower_engine::Engine;
use tower_engine::orders::DefinitionError;
use tower_engine::schedules::{ScheduleError, ScheduleWish};
use tower_store::blobs::MemoryBlobs;
use tower_store::read::{PageRequest, TraceFilter};
use tower_store::schedules::OrderFilter;
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};

const HOUR: Duration = Duration::from_secs(3_600);

struct Sim {
    engine: Engine,
    clock: Arc<ManualClock>,
    store: SqliteStore,
}

fn at(year: i32, month: u32, day: u32, hour: u32) -> Timestamp {
    serde_json::from_str(&format!("\"{year:04}-{month:02}-{day:02}T{hour:02}:00:00Z\"")).unwrap()
}

async fn sim(options: SqliteOptions, now: Timestamp) -> Sim {
    let clock = Arc::new(ManualClock::at_micros(now.as_micros()));
    let store = sqlite::open(options).await.unwrap();
    let ids = Arc::new(MonotonicIds::new(clock.clone()));
    let stores = store.stores(Arc::new(MemoryBlobs::default()));
    let engine = Engine::start(config(), stores, vec![Arc::new(Scripted::default())], clock.clone(), ids).await.unwrap();
    Sim { engine, clock, store }
}

/// A definition's text with more fields.
fn spec(fields: &str) -> DefinitionSpec {
    serde_json::from_str(&format!(r#"{{"actor_type":"AGENT","code_ref":"wasm://x","schedule_type":"CRON",{fields}}}"#)).unwrap()
}

const NOTHING: &str = r#""default_params":{"do":"nothing"}"#;
const WAIT: &str = r#""default_params":{"do":"wait"}"#;

impl Sim {
    async fn put(&self, fields: &str) {
        self.engine.put_definition(&name("s"), spec(fields), None).await.unwrap();
    }

    async fn row(&self) -> Schedule {
        self.engine.stores().schedules.find(&name("s")).await.unwrap().unwrap()
    }

    async fn order(&self, wish: ScheduleWish) -> Result<(Schedule, bool), ScheduleError> {
        self.engine.order_schedule(&name("s"), wish, "bob", "why").await
    }

    /// Sets the clock, and fires what is due.
    async fn reach(&self, at: Timestamp) {
        self.clock.set_micros(at.as_micros());
        self.engine.fire_due().await.unwrap();
    }

    /// Traces, oldest first.
    async fn traces(&self) -> Vec<Trace> {
        let mut traces = Vec::new();
        let mut after = None;
        loop {
            let page = self.engine.stores().read.traces(&TraceFilter::default(), &PageRequest { after, limit: 500 }).await.unwrap();
            traces.extend(page.items);
            after = page.next;
            if after.is_none() {
                traces.sort_by_key(|trace| trace.cron_trigger_time);
                return traces;
            }
        }
    }

    async fn fired(&self) -> Vec<Timestamp> {
        self.traces().await.iter().filter_map(|trace| trace.cron_trigger_time).collect()
    }

    async fn ended(&self, trace: &Trace) -> Status {
        self.engine.wait_for_end(trace.trace_id, Duration::from_secs(60)).await.unwrap().unwrap().status
    }

    async fn stop(self) {
        self.engine.shutdown(Duration::ZERO).await;
        let violations = tower_store::invariants::check(&self.store).await.unwrap();
        assert!(violations.is_empty(), "{violations:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_a_daily_schedule_fires_once_a_day() {
    let sim = sim(SqliteOptions::memory(), at(2026, 1, 1, 0)).await;
    sim.put(&format!(r#"{NOTHING},"cron_expr":"30 2 * * *","timezone":"Europe/Berlin""#)).await;
    let mut expected = Vec::new();
    while let Some(next) = sim.row().await.next_at.filter(|next| *next < at(2027, 1, 1, 0)) {
        expected.push(next);
        sim.reach(next).await;
    }
    let fired = sim.fired().await;
    assert_eq!((fired.len(), &fired), (365, &expected));
    assert_eq!(fired.windows(2).filter(|pair| pair[1].since(pair[0]) != 24 * HOUR).count(), 3, "two around the gap, one after the fold");
    assert!(sim.traces().await.iter().all(|trace| trace.trigger_type == TriggerType::Cron && trace.triggered_by == "schedule"));
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_without_a_host_is_made_up_for_by_the_rule() {
    for (misfire, fires, missed) in [("FIRE_ONCE", 1, 23), ("SKIP", 0, 24), ("FIRE_ALL", 24, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tower.db");
        let before = sim(SqliteOptions::file(&path), at(2026, 5, 1, 0)).await;
        before.put(&format!(r#"{NOTHING},"cron_expr":"@hourly","misfire":"{misfire}""#)).await;
        before.stop().await;
        let after = sim(SqliteOptions::file(&path), at(2026, 5, 2, 0).plus(HOUR / 2)).await;
        after.engine.fire_due().await.unwrap();
        while after.row().await.next_at != Some(at(2026, 5, 2, 1)) {
            tokio::task::yield_now().await;
        }
        let row = after.row().await;
        assert_eq!((row.fired, row.missed, after.fired().await.len()), (fires, missed, fires as usize), "{misfire}");
        after.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_stepped_fires_no_instant_twice() {
    let sim = sim(SqliteOptions::memory(), at(2026, 5, 1, 0)).await;
    sim.put(&format!(r#"{NOTHING},"cron_expr":"@hourly""#)).await;
    sim.reach(at(2026, 5, 1, 1)).await;
    sim.reach(at(2026, 5, 1, 2)).await;
    for hour in 0..=2 {
        sim.reach(at(2026, 5, 1, hour)).await;
    }
    assert_eq!(sim.fired().await, [at(2026, 5, 1, 1), at(2026, 5, 1, 2)]);
    // While it is back, the schedule is put anew.
    sim.reach(at(2026, 5, 1, 0)).await;
    sim.put(&format!(r#"{NOTHING},"cron_expr":"0 * * * *","jitter_sec":1"#)).await;
    for hour in 0..=3 {
        sim.reach(at(2026, 5, 1, hour)).await;
    }
    assert_eq!(sim.fired().await.len(), 3);
    // Two hours forward: three instants are due, and one fires for them.
    sim.reach(at(2026, 5, 1, 6).plus(HOUR / 2)).await;
    assert_eq!(sim.fired().await[3..], [at(2026, 5, 1, 6)]);
    assert_eq!(sim.row().await.missed, 2);
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlaps_are_settled_by_the_rule() {
    for (overlap, fired, skipped) in [("ALLOW", 3, 0), ("SKIP", 1, 2), ("QUEUE", 1, 0), ("CANCEL_PREVIOUS", 3, 0)] {
        let sim = sim(SqliteOptions::memory(), at(2026, 5, 1, 0)).await;
        sim.put(&format!(r#"{WAIT},"cron_expr":"@hourly","overlap":"{overlap}""#)).await;
        for hour in 1..=3 {
            sim.reach(at(2026, 5, 1, hour)).await;
        }
        let row = sim.row().await;
        assert_eq!((row.fired, row.skipped, row.waiting_trace_id.is_some()), (fired, skipped, overlap == "QUEUE"), "{overlap}");
        let traces = sim.traces().await;
        if overlap == "CANCEL_PREVIOUS" {
            assert_eq!((sim.ended(&traces[0]).await, sim.ended(&traces[1]).await), (Status::Cancelled, Status::Cancelled));
            let orders = sim.engine.stores().read.control_events(traces[0].trace_id).await.unwrap();
            assert_eq!((orders[0].action, orders[0].triggered_by.as_str()), (ControlAction::Cancel, "schedule"));
        }
        assert!(!traces.last().unwrap().status.is_terminal());
        sim.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_fires_as_soon_as_the_trace_before_has_ended() {
    let sim = sim(SqliteOptions::memory(), at(2026, 5, 1, 0)).await;
    sim.put(&format!(r#"{WAIT},"cron_expr":"@hourly","overlap":"QUEUE""#)).await;
    for hour in 1..=3 {
        sim.reach(at(2026, 5, 1, hour)).await;
    }
    for ended in 1..=2 {
        let traces = sim.traces().await;
        assert_eq!(traces.len(), ended);
        let last = traces.last().unwrap();
        let request = tower_engine::orders::ControlRequest {
            control: tower_engine::orders::Control::Cancel,
            trace_id: last.trace_id,
            task_id: None,
            triggered_by: "test".to_owned(),
            reason: String::new(),
        };
        sim.engine.control(request).await.unwrap();
        // Nobody asks for it: the end of the trace rings the bell.
        while sim.row().await.fired == ended as u64 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(sim.fired().await, [1, 2, 3].map(|hour| at(2026, 5, 1, hour)));
    assert_eq!(sim.row().await.missed, 0);
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_was_held_goes_on_from_now() {
    let sim = sim(SqliteOptions::memory(), at(2026, 5, 1, 0)).await;
    sim.put(&format!(r#"{NOTHING},"cron_expr":"@hourly","misfire":"FIRE_ALL""#)).await;
    sim.reach(at(2026, 5, 1, 1)).await;
    let (paused, new) = sim.order(ScheduleWish::Pause).await.unwrap();
    assert_eq!((paused.state, paused.next_at, new), (ScheduleState::Paused, None, true));
    assert!(!sim.order(ScheduleWish::Pause).await.unwrap().1);
    for hour in 2..=9 {
        sim.reach(at(2026, 5, 1, hour)).await;
    }
    let (resumed, _) = sim.order(ScheduleWish::Resume).await.unwrap();
    assert_eq!((resumed.state, resumed.next_at, resumed.missed), (ScheduleState::Active, Some(at(2026, 5, 1, 10)), 0));
    sim.reach(at(2026, 5, 1, 10)).await;
    assert_eq!(sim.fired().await, [at(2026, 5, 1, 1), at(2026, 5, 1, 10)]);
    let next = sim.engine.next_firings(&name("s"), 3).await.unwrap().1;
    assert_eq!(next, [11, 12, 13].map(|hour| at(2026, 5, 1, hour)));
    assert_eq!(sim.order(ScheduleWish::Cancel).await.unwrap().0.state, ScheduleState::Cancelled);
    assert!(matches!(sim.order(ScheduleWish::Resume).await, Err(ScheduleError::Ended { state: ScheduleState::Cancelled, .. })));
    assert!(!sim.order(ScheduleWish::Cancel).await.unwrap().1);
    assert!(sim.engine.next_firings(&name("s"), 3).await.unwrap().1.is_empty());
    let filter = OrderFilter { definition_id: Some(name("s")), ..OrderFilter::default() };
    let orders = sim.engine.stores().schedules.orders(&filter, &PageRequest { after: None, limit: 10 }).await.unwrap().items;
    let said = orders.iter().map(|order| (order.action, order.triggered_by.as_str(), order.reason.as_str())).collect::<Vec<_>>();
    assert_eq!(said, [ControlAction::Cancel, ControlAction::Run, ControlAction::Pause].map(|action| (action, "bob", "why")));
    sim.engine.put_definition(&name("s"), serde_json::from_str(r#"{"actor_type":"AGENT","code_ref":"wasm://x"}"#).unwrap(), None).await.unwrap();
    assert!(matches!(sim.order(ScheduleWish::Pause).await, Err(ScheduleError::NotScheduled(_))));
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_is_switched_off_does_not_fire_although_it_is_resumed() {
    let sim = sim(SqliteOptions::memory(), at(2026, 5, 1, 0)).await;
    sim.put(&format!(r#"{NOTHING},"cron_expr":"@hourly""#)).await;
    sim.order(ScheduleWish::Pause).await.unwrap();
    sim.put(&format!(r#"{NOTHING},"cron_expr":"@hourly","is_active":false"#)).await;
    let (resumed, _) = sim.order(ScheduleWish::Resume).await.unwrap();
    assert_eq!((resumed.state, resumed.next_at), (ScheduleState::Active, None));
    sim.reach(at(2026, 5, 1, 2)).await;
    sim.put(&format!(r#"{NOTHING},"cron_expr":"@hourly""#)).await;
    sim.reach(at(2026, 5, 1, 3)).await;
    assert_eq!(sim.fired().await, [at(2026, 5, 1, 3)]);
    assert_eq!(sim.row().await.skipped, 0);
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_at_fires_once_and_never_again() {
    let sim = sim(SqliteOptions::memory(), at(2026, 5, 1, 0)).await;
    let once = |role: &str| format!(r#"{NOTHING},"role":"{role}","run_at":"2026-05-01T05:00:00Z""#).replace("CRON", "ONCE");
    let put = async |role: &str| {
        let text = format!(r#"{{"actor_type":"AGENT","code_ref":"wasm://x",{}}}"#, once(role));
        sim.engine.put_definition(&name("s"), serde_json::from_str(&text).unwrap(), None).await.unwrap()
    };
    put("a").await;
    sim.reach(at(2026, 5, 1, 4)).await;
    assert!(sim.fired().await.is_empty());
    sim.reach(at(2026, 5, 1, 5)).await;
    put("b").await;
    sim.reach(at(2026, 5, 1, 6)).await;
    let traces = sim.traces().await;
    assert_eq!((traces.len(), traces[0].trigger_type, sim.row().await.state), (1, TriggerType::Schedule, ScheduleState::Completed));
    sim.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_fires_by_itself_needs_params_that_fit() {
    let sim = sim(SqliteOptions::memory(), at(2026, 5, 1, 0)).await;
    let schema = r#""params_schema":{"type":"object","required":["do"]}"#;
    let refused = sim.engine.put_definition(&name("s"), spec(&format!(r#"{schema},"cron_expr":"@hourly""#)), None).await;
    assert!(matches!(refused, Err(DefinitionError::Defaults(_))));
    sim.put(&format!(r#"{schema},{NOTHING},"cron_expr":"@hourly""#)).await;
    sim.stop().await;
}
