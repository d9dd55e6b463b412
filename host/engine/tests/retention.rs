//! Traces that are kept no longer, in simulated time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod scripted;

use std::sync::Arc;
use std::time::Duration;

use scripted::{Scripted, config, name};
use tower_domain::clock::ManualClock;
use tower_domain::id::MonotonicIds;
use tower_domain::schedule::ScheduleState;
use tower_engine::{Engine, EngineConfig};
use tower_store::blobs::MemoryBlobs;
use tower_store::invariants;
use tower_store::read::{PageRequest, TraceFilter};
use tower_store::sqlite::{self, SqliteOptions};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_each_instant_once_for_weeks_while_its_traces_go() {
    let clock = Arc::new(ManualClock::at_micros(1_700_000_000_000_000));
    let store = sqlite::open(SqliteOptions::memory()).await.unwrap();
    let ids = Arc::new(MonotonicIds::new(clock.clone()));
    let config = EngineConfig { retention: Some(48 * HOUR), ..config() };
    let engine = Engine::start(config, store.stores(Arc::new(MemoryBlobs::default())), vec![Arc::new(Scripted::default())], clock.clone(), ids).await.unwrap();
    let text = r#"{"actor_type":"AGENT","code_ref":"wasm://x","schedule_type":"CRON","cron_expr":"0 * * * *","default_params":{"do":"nothing"}}"#;
    engine.put_definition(&name("s"), serde_json::from_str(text).unwrap(), None).await.unwrap();
    let all = async || engine.stores().read.traces(&TraceFilter::default(), &PageRequest { after: None, limit: 500 }).await.unwrap().items;
    for hour in 1..=24 * 14 {
        clock.advance(HOUR);
        engine.fire_due().await.unwrap();
        for trace in all().await {
            engine.wait_for_end(trace.trace_id, Duration::from_secs(60)).await.unwrap();
        }
        engine.retire_old().await.unwrap();
        assert_eq!(all().await.len(), hour.min(49), "hour {hour}: those of the last 48 hours, both ends included");
        if hour % 60 == 0 {
            // The same in other words begins anew, after the latest instant that fired.
            let text = if hour % 120 == 0 { text.to_owned() } else { text.replace("0 * * * *", "0 0 * * * *") };
            engine.put_definition(&name("s"), serde_json::from_str(&text).unwrap(), None).await.unwrap();
        }
        if hour % 24 == 0 {
            assert!(invariants::check(&store).await.unwrap().is_empty());
        }
    }
    let row = engine.stores().schedules.find(&name("s")).await.unwrap().unwrap();
    assert_eq!((row.state, row.missed), (ScheduleState::Active, 0));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_deletes_by_itself_what_is_old_when_it_starts() {
    let clock = Arc::new(ManualClock::at_micros(1_700_000_000_000_000));
    let store = sqlite::open(SqliteOptions::memory()).await.unwrap();
    let begin = async |retention| {
        let ids = Arc::new(MonotonicIds::new(clock.clone()));
        let stores = store.stores(Arc::new(MemoryBlobs::default()));
        Engine::start(EngineConfig { retention, ..config() }, stores, vec![Arc::new(Scripted::default())], clock.clone(), ids).await.unwrap()
    };
    let engine = begin(None).await;
    let text = r#"{"actor_type":"AGENT","code_ref":"wasm://x","schedule_type":"CRON","cron_expr":"0 * * * *","default_params":{"do":"nothing"}}"#;
    engine.put_definition(&name("s"), serde_json::from_str(text).unwrap(), None).await.unwrap();
    clock.advance(HOUR);
    engine.fire_due().await.unwrap();
    let all = async |engine: &Engine| engine.stores().read.traces(&TraceFilter::default(), &PageRequest { after: None, limit: 500 }).await.unwrap().items;
    let trace = all(&engine).await[0].trace_id;
    engine.wait_for_end(trace, Duration::from_secs(60)).await.unwrap();
    engine.order_schedule(&name("s"), tower_engine::schedules::ScheduleWish::Cancel, "bob", "why").await.unwrap();
    clock.advance(30 * HOUR);
    assert_eq!((engine.retire_old().await.unwrap(), all(&engine).await.len()), (0, 1), "without a setting it is kept for ever");
    engine.shutdown(Duration::from_secs(5)).await;
    let engine = begin(Some(24 * HOUR)).await;
    let begun = std::time::Instant::now();
    while !all(&engine).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
}
