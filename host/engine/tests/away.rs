//! The engine over a database that is away for a while, slow to answer, or changed while it is read.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod scripted;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use scripted::{Bench, config, name, start_on};
use tokio::sync::Notify;
use tower_domain::clock::Timestamp;
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::name::Name;
use tower_domain::task::{Phase, Status};
use tower_engine::EngineConfig;
use tower_store::definitions::{DefinitionFilter, DefinitionStore, Put};
use tower_store::read::{Page, PageRequest, TaskFilter};
use tower_store::sqlite::SqliteOptions;
use tower_store::work::{Batch, Command, Committed, WorkStore};
use tower_store::{StoreError, Stores};

/// A store that can be told to be away, or to keep an answer back.
struct Away {
    work: Arc<dyn WorkStore>,
    is_away: AtomicBool,
    /// Whether it does not answer outcomes at all, as one that is locked.
    is_stalled: AtomicBool,
    stalled: Notify,
    /// Answers with claims are kept back while this is set.
    keeps_back: AtomicBool,
    kept: Notify,
    goes_on: Notify,
}

#[async_trait]
impl WorkStore for Away {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        self.check_writable().await?;
        let has_outcomes = batch.commands.iter().any(|command| matches!(command, Command::Settle(_)));
        if has_outcomes && self.is_stalled.load(Ordering::SeqCst) {
            self.stalled.notify_one();
            self.goes_on.notified().await;
        }
        let committed = self.work.commit(batch).await?;
        if !committed.claimed.is_empty() && self.keeps_back.load(Ordering::SeqCst) {
            self.kept.notify_one();
            self.goes_on.notified().await;
        }
        Ok(committed)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Blobs { what: "writing".to_owned(), source: std::io::ErrorKind::StorageFull.into() });
        }
        self.work.check_writable().await
    }
}

async fn bench(config: EngineConfig) -> (Bench, Arc<Away>) {
    let mut away = None;
    let bench = start_on(SqliteOptions::memory(), config, |stores| {
        let work = Arc::new(Away {
            work: stores.work.clone(),
            is_away: AtomicBool::new(false),
            is_stalled: AtomicBool::new(false),
            stalled: Notify::new(),
            keeps_back: AtomicBool::new(false),
            kept: Notify::new(),
            goes_on: Notify::new(),
        });
        away = Some(work.clone());
        Stores { work, ..stores }
    })
    .await;
    (bench, away.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_a_lease_costs_no_result_and_no_second_run() {
    let (bench, away) = bench(EngineConfig { slots: 9, lease: Duration::from_millis(300), ..config() }).await;
    let trace = bench.trigger(r#"{"do":"split","n":8,"of":"nap"}"#).await;
    // This one runs all the time, so that its claim has to outlive its lease.
    let long = bench.trigger(r#"{"do":"nap","n":1300}"#).await;
    // Whoever has begun: on a busy machine the first may end before the last begins.
    while bench.script.begun.load(Ordering::SeqCst) < 10 {
        tokio::task::yield_now().await;
    }
    away.is_away.store(true, Ordering::SeqCst);
    let begin = Instant::now();
    while bench.engine.is_healthy() {
        tokio::task::yield_now().await;
    }
    // All eight children come to their results meanwhile, and every lease is over.
    while bench.script.now.load(Ordering::SeqCst) > 1 || begin.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    away.is_away.store(false, Ordering::SeqCst);
    let ended = bench.ended(trace).await;
    assert_eq!((ended.status, ended.counts.success), (Status::Success, 9));
    assert_eq!(bench.ended(long).await.status, Status::Success);
    assert_eq!(bench.script.begun.load(Ordering::SeqCst), 11, "eight children, their root twice, the long one: nobody ran again");
    assert!(bench.engine.is_healthy());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_takes_longer_than_a_lease_costs_no_result_of_those_that_end_meanwhile() {
    let (bench, away) = bench(EngineConfig { slots: 4, claims_ahead: 4, lease: Duration::from_millis(300), ..config() }).await;
    let trace = bench.trigger(r#"{"do":"split","n":40,"of":"nap"}"#).await;
    // There is more to claim than there is room for, so that the next round does not wait for what has come up.
    while bench.script.now.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
    }
    away.is_stalled.store(true, Ordering::SeqCst);
    away.stalled.notified().await;
    let begin = Instant::now();
    // All that are claimed come to their results while one commit hangs, and every lease is over before it is done.
    while bench.script.now.load(Ordering::SeqCst) > 0 || begin.elapsed() < Duration::from_millis(700) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    away.is_stalled.store(false, Ordering::SeqCst);
    away.goes_on.notify_one();
    let ended = bench.ended(trace).await;
    assert_eq!((ended.status, ended.counts.success), (Status::Success, 41));
    assert_eq!(bench.script.begun.load(Ordering::SeqCst), 42, "forty children, their root twice: nobody ran again");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_arrive_during_a_shutdown_are_given_back() {
    let (bench, away) = bench(config()).await;
    away.keeps_back.store(true, Ordering::SeqCst);
    // The trigger is answered with its commit, which is kept back: so it is not waited for here.
    let Bench { engine, script, store } = bench;
    let waiting = tokio::spawn({
        let bench = Bench { engine: engine.clone(), script: script.clone(), store: store.clone() };
        async move { bench.trigger(r#"{"do":"nothing"}"#).await }
    });
    away.kept.notified().await;
    let stopping = tokio::spawn({
        let engine = engine.clone();
        async move { engine.shutdown(Duration::from_secs(5)).await }
    });
    while engine.load().accepting {
        tokio::task::yield_now().await;
    }
    away.keeps_back.store(false, Ordering::SeqCst);
    away.goes_on.notify_one();
    let trace = waiting.await.unwrap();
    stopping.await.unwrap();
    let tasks = engine.stores().read.tasks(trace, &TaskFilter::default(), &PageRequest { after: None, limit: 10 }).await.unwrap().items;
    assert_eq!((tasks[0].phase, tasks[0].attempt, tasks[0].fence), (Phase::Queued, 0, 1), "claimed, never begun, given back, no retry used up");
    assert_eq!(script.begun.load(Ordering::SeqCst), 0);
    assert!(tower_store::invariants::check(&store).await.unwrap().is_empty());
}

/// Definitions of which a read can be kept back, with what it had read.
struct SlowReads {
    definitions: Arc<dyn DefinitionStore>,
    keeps_back: AtomicBool,
    kept: Notify,
    goes_on: Notify,
}

#[async_trait]
impl DefinitionStore for SlowReads {
    async fn put(&self, id: &Name, spec: &DefinitionSpec, expected: Option<u32>, now: Timestamp) -> Result<Put, StoreError> {
        self.definitions.put(id, spec, expected, now).await
    }

    async fn find(&self, id: &Name) -> Result<Option<Definition>, StoreError> {
        let found = self.definitions.find(id).await;
        if self.keeps_back.swap(false, Ordering::SeqCst) {
            self.kept.notify_one();
            self.goes_on.notified().await;
        }
        found
    }

    async fn find_version(&self, id: &Name, version: u32) -> Result<Option<Definition>, StoreError> {
        self.definitions.find_version(id, version).await
    }

    async fn find_as_of(&self, id: &Name, at: Timestamp) -> Result<Option<Definition>, StoreError> {
        self.definitions.find_as_of(id, at).await
    }

    async fn list(&self, filter: &DefinitionFilter, page: &PageRequest<Name>) -> Result<Page<Definition, Name>, StoreError> {
        self.definitions.list(filter, page).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_changes_while_it_is_read_is_not_kept_as_it_was() {
    let mut slow = None;
    let bench = start_on(SqliteOptions::memory(), config(), |stores| {
        let definitions = stores.definitions.clone();
        let reads = Arc::new(SlowReads { definitions, keeps_back: AtomicBool::new(false), kept: Notify::new(), goes_on: Notify::new() });
        slow = Some(reads.clone());
        Stores { definitions: reads, ..stores }
    })
    .await;
    let slow = slow.unwrap();
    slow.keeps_back.store(true, Ordering::SeqCst);
    let Bench { engine, script, store } = bench;
    let reading = tokio::spawn({
        let bench = Bench { engine: engine.clone(), script: script.clone(), store: store.clone() };
        async move { bench.run(r#"{"do":"nothing"}"#).await }
    });
    slow.kept.notified().await;
    let spec = serde_json::from_str(r#"{"actor_type":"AGENT","code_ref":"wasm://y","max_retries":1}"#).unwrap();
    engine.put_definition(&name("work"), spec, None).await.unwrap();
    slow.goes_on.notify_one();
    // Who asked before the change may be given the old one; who asks after it may not.
    reading.await.unwrap();
    let bench = Bench { engine, script, store };
    assert_eq!(bench.run(r#"{"do":"nothing"}"#).await.definition_version, 2);
    bench.stop().await;
}
