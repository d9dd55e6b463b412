//! Traces that are kept no longer, in simulated time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod scripted;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scripted::{Bench, Scripted, config, name};
use tower_domain::clock::ManualClock;
use tower_domain::code_ref::Digest;
use tower_domain::id::MonotonicIds;
use tower_domain::schedule::ScheduleState;
use tower_domain::task::Output;
use tower_engine::{ARTIFACT_URL, Engine, EngineConfig};
use tower_store::blobs::{BlobStore, MemoryBlobs};
use tower_store::read::{PageRequest, TraceFilter};
use tower_store::sqlite::{self, SqliteOptions};
use tower_store::{StoreError, invariants};

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

/// Deletes nothing while it is told so.
#[derive(Default)]
struct Clinging {
    bytes: MemoryBlobs,
    clings: AtomicBool,
}

#[async_trait]
impl BlobStore for Clinging {
    async fn put(&self, bytes: Vec<u8>) -> Result<Digest, StoreError> {
        self.bytes.put(bytes).await
    }

    async fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.bytes.get(digest).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        if self.clings.load(Ordering::SeqCst) {
            return Err(StoreError::Blobs { what: "removing".to_owned(), source: std::io::ErrorKind::PermissionDenied.into() });
        }
        self.bytes.delete(digest).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_outputs_go_with_their_traces_once_the_artifact_store_lets_them() {
    let clock = Arc::new(ManualClock::at_micros(1_700_000_000_000_000));
    let store = sqlite::open(SqliteOptions::memory()).await.unwrap();
    let ids = Arc::new(MonotonicIds::new(clock.clone()));
    let blobs = Arc::new(Clinging::default());
    let config = EngineConfig { retention: Some(48 * HOUR), ..config() };
    let script = Arc::new(Scripted::default());
    let engine = Engine::start(config, store.stores(blobs.clone()), vec![script.clone()], clock.clone(), ids).await.unwrap();
    engine.put_definition(&name("work"), serde_json::from_str(r#"{"actor_type":"AGENT","code_ref":"wasm://x"}"#).unwrap(), None).await.unwrap();
    let bench = Bench { engine, script, store };
    // More than are deleted at a time.
    let mut traces = Vec::new();
    for _ in 0..120 {
        traces.push(bench.trigger(r#"{"do":"large","n":70000}"#).await);
    }
    let mut outputs: Vec<Digest> = Vec::new();
    for trace in traces {
        let Some(Output::Ref(url)) = bench.ended(trace).await.output else { panic!("it is large") };
        outputs.push(url.strip_prefix(ARTIFACT_URL).unwrap().parse().unwrap());
    }
    let left = async || {
        let mut left = 0;
        for digest in &outputs {
            left += usize::from(blobs.get(digest).await.unwrap().is_some());
        }
        left
    };
    assert_eq!((bench.engine.retire_old().await.unwrap(), left().await), (0, 120));
    clock.advance(49 * HOUR);
    blobs.clings.store(true, Ordering::SeqCst);
    assert!(bench.engine.retire_old().await.is_err());
    let traces = bench.engine.stores().read.traces(&TraceFilter::default(), &PageRequest { after: None, limit: 500 }).await.unwrap().items;
    assert_eq!((traces.len(), left().await), (0, 120), "the traces are gone, and what they left is not");
    assert_eq!(bench.engine.stores().artifacts.ownerless(500).await.unwrap().len(), 120);
    blobs.clings.store(false, Ordering::SeqCst);
    assert_eq!((bench.engine.retire_old().await.unwrap(), left().await), (0, 0));
    assert!(bench.engine.stores().artifacts.ownerless(500).await.unwrap().is_empty());
    bench.stop().await;
}
