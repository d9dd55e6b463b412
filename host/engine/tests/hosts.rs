//! Several hosts on one database: work, orders and news find their way, and a host that is cut off does no harm.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod scripted;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use scripted::{Bench, config, join, join_on, name};
use tokio::sync::Notify;
use tower_domain::event::EventType;
use tower_domain::id::TraceId;
use tower_domain::task::{Phase, Status};
use tower_engine::EngineConfig;
use tower_engine::orders::{Control, ControlRequest};
use tower_store::news::{Listener, News, Newsroom};
use tower_store::read::{PageRequest, TaskFilter};
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};
use tower_store::work::{Batch, Committed, WorkStore};
use tower_store::{StoreError, Stores};

async fn database() -> SqliteStore {
    sqlite::open(SqliteOptions::memory()).await.unwrap()
}

/// A host with so many slots, and none ahead.
fn slots(slots: u32) -> EngineConfig {
    EngineConfig { slots, claims_ahead: 0, ..config() }
}

async fn until(what: &str, met: impl AsyncFn() -> bool) {
    let begin = tokio::time::Instant::now();
    while !met().await {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Has a host take no more, which it can be told once it has said that it is there.
async fn drained(bench: &Bench, host: &str) {
    until("the host to be known", async || bench.engine.drain_host(host, true).await.unwrap()).await;
    until("the host to take no more", async || !bench.engine.load().accepting).await;
}

fn begun(bench: &Bench) -> u64 {
    bench.script.begun.load(Ordering::SeqCst)
}

async fn cancel(bench: &Bench, trace_id: TraceId) {
    let request = ControlRequest { control: Control::Cancel, trace_id, task_id: None, triggered_by: "test".to_owned(), reason: "enough".to_owned() };
    bench.engine.control(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_to_whoever_has_room_and_no_task_runs_twice() {
    let store = database().await;
    let (a, b, c) = (join(&store, "a", slots(1)).await, join(&store, "b", slots(4)).await, join(&store, "c", slots(4)).await);
    let trace = a.run(r#"{"do":"split","n":400,"of":"nothing"}"#).await;
    assert_eq!((trace.status, trace.counts.success), (Status::Success, 401));
    assert_eq!(begun(&a) + begun(&b) + begun(&c), 402, "400 children, the root twice");
    // The first is busy: another is woken for what the first takes in.
    let busy = a.trigger(r#"{"do":"wait"}"#).await;
    for _ in 0..20 {
        assert_eq!(a.run(r#"{"do":"nothing"}"#).await.status, Status::Success);
    }
    cancel(&b, busy).await;
    assert_eq!(c.ended(busy).await.status, Status::Cancelled);
    for bench in [a, b, c] {
        bench.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_busy_host_claimed_ahead_runs_where_there_is_a_slot() {
    let store = database().await;
    let (a, b) = (join(&store, "a", EngineConfig { slots: 2, claims_ahead: 50, ..config() }).await, join(&store, "b", slots(20)).await);
    drained(&b, "b").await;
    let trace = a.trigger(r#"{"do":"split","n":60,"of":"wave"}"#).await;
    // While steps end, it claims some ahead; then they end no more, and what it has claimed by then waits for nothing.
    a.script.wave.add_permits(40);
    until("a to be busy", async || begun(&a) >= 43).await;
    let ahead = a.engine.load().claimed_ahead;
    assert!(ahead <= 6, "{ahead} claims ahead of two slots, of which 41 steps ended: another might begin them");
    b.engine.drain_host("b", false).await.unwrap();
    until("b to run the rest", async || b.engine.load().running == 18).await;
    assert_eq!((a.engine.load().running, a.engine.load().claimed_ahead), (2, 0));
    for bench in [&a, &b] {
        bench.script.wave.add_permits(60);
    }
    assert_eq!(b.ended(trace).await.counts.success, 61);
    assert_eq!(begun(&a) + begun(&b), 62, "none ran twice");
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_given_to_one_host_is_heard_by_the_step_on_another() {
    let store = database().await;
    let (a, b) = (join(&store, "a", slots(0)).await, join(&store, "b", slots(4)).await);
    drained(&a, "a").await;
    let trace = a.trigger(r#"{"do":"listen"}"#).await;
    until("it to run on b", async || b.engine.load().running == 1).await;
    cancel(&a, trace).await;
    let ended = a.ended(trace).await;
    assert_eq!(ended.status, Status::Cancelled);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_followed_and_waited_for_where_it_does_not_run() {
    let store = database().await;
    let (a, b) = (join(&store, "a", slots(1)).await, join(&store, "b", slots(8)).await);
    drained(&a, "a").await;
    let trace = a.trigger(r#"{"do":"split","n":100,"of":"nothing"}"#).await;
    let mut follow = a.engine.follow(trace, 0);
    let mut seen = Vec::new();
    while let Some(events) = follow.next().await {
        seen.extend(events.unwrap());
    }
    assert!(seen.iter().map(|event| event.seq).eq(1..=seen.len() as u64), "in order and without gaps");
    assert_eq!(seen.iter().filter(|event| event.event_type == EventType::Completed).count(), 101);
    assert_eq!(a.ended(trace).await.status, Status::Success);
    assert_eq!((begun(&a), begun(&b)), (0, 102));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_host_ends_what_it_runs_and_the_others_do_the_rest() {
    let store = database().await;
    let (a, b) = (join(&store, "a", EngineConfig { slots: 2, claims_ahead: 50, ..config() }).await, join(&store, "b", slots(2)).await);
    drained(&b, "b").await;
    let trace = a.trigger(r#"{"do":"split","n":20,"of":"nap"}"#).await;
    until("a to hold claims ahead", async || a.engine.load().claimed_ahead > 0).await;
    b.engine.drain_host("b", false).await.unwrap();
    b.engine.drain_host("a", true).await.unwrap();
    until("a to give back what it had not begun", async || a.engine.load().claimed_ahead == 0 && !a.engine.load().accepting).await;
    assert_eq!(b.ended(trace).await.counts.success, 21);
    until("a to be idle", async || a.engine.load().running == 0).await;
    assert!(begun(&b) >= 15, "{} on a, {} on b", begun(&a), begun(&b));
    assert_eq!(begun(&a) + begun(&b), 22, "none ran twice");
    let hosts = a.engine.hosts().await.unwrap();
    assert_eq!(hosts.iter().map(|host| (host.beat.id.as_str(), host.draining)).collect::<Vec<_>>(), [("a", true), ("b", false)]);
    a.stop().await;
    assert!(b.engine.hosts().await.unwrap()[0].left_at.is_some(), "a said that it goes");
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_changes_on_one_host_is_another_on_all() {
    let store = database().await;
    let (a, b) = (join(&store, "a", slots(1)).await, join(&store, "b", slots(1)).await);
    for version in [2, 3, 4] {
        let spec = format!(r#"{{"actor_type":"AGENT","code_ref":"wasm://x","description":"{version}"}}"#);
        a.engine.put_definition(&name("work"), serde_json::from_str(&spec).unwrap(), None).await.unwrap();
        let at = a.engine.stores().definitions.find(&name("work")).await.unwrap().unwrap().version;
        until("b to know of it", async || {
            let trace = b.trigger(r#"{"do":"nothing"}"#).await;
            b.ended(trace).await.definition_version == at
        })
        .await;
    }
    a.stop().await;
    b.stop().await;
}

/// A host's way to the database, which can be cut.
struct Cut {
    work: Arc<dyn WorkStore>,
    is_cut: Arc<AtomicBool>,
}

#[async_trait]
impl WorkStore for Cut {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        if self.is_cut.load(Ordering::SeqCst) {
            return Err(StoreError::Unusable("cut off".to_owned()));
        }
        self.work.commit(batch).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        if self.is_cut.load(Ordering::SeqCst) { Err(StoreError::Unusable("cut off".to_owned())) } else { self.work.check_writable().await }
    }
}

/// A host whose way to the database can be cut.
async fn join_cuttable(store: &SqliteStore, host: &str, config: EngineConfig) -> (Bench, Arc<AtomicBool>) {
    let is_cut = Arc::new(AtomicBool::new(false));
    let cut = is_cut.clone();
    let config = EngineConfig { host: host.to_owned(), shared: true, ..config };
    let bench = join_on(store.clone(), config, |stores| Stores { work: Arc::new(Cut { work: stores.work.clone(), is_cut: cut }), ..stores }).await;
    (bench, is_cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_cut_off_stops_its_steps_before_another_runs_them() {
    let store = database().await;
    // A sixth of it is what lies between the end of a's steps and the end of its leases, and this test looks meanwhile.
    let lease = Duration::from_secs(9);
    let (a, cut) = join_cuttable(&store, "a", EngineConfig { lease, ..slots(4) }).await;
    let trace = a.trigger(r#"{"do":"split","n":3,"of":"wait"}"#).await;
    until("three steps to run", async || a.engine.load().running == 3).await;
    let b = join(&store, "b", EngineConfig { lease, ..slots(4) }).await;
    cut.store(true, Ordering::SeqCst);
    // The steps of the script run until they are stopped: that they end shows that a stopped them.
    until("a to stop its steps", async || a.script.now.load(Ordering::SeqCst) == 0).await;
    let tasks = b.engine.stores().read.tasks(trace, &TaskFilter::default(), &PageRequest { after: None, limit: 10 }).await.unwrap().items;
    let held_by_a = tasks.iter().filter(|task| task.lease_owner.as_deref() == Some("a")).count();
    assert_eq!(held_by_a, 3, "its leases were not over yet: nobody runs them twice");
    until("b to take over", async || b.engine.load().running == 3).await;
    cut.store(false, Ordering::SeqCst);
    cancel(&b, trace).await;
    assert_eq!(b.ended(trace).await.status, Status::Cancelled);
    let after = b.engine.stores().read.tasks(trace, &TaskFilter::default(), &PageRequest { after: None, limit: 10 }).await.unwrap().items;
    assert!(after.iter().all(|task| task.phase == Phase::Done), "what a said too late changed nothing");
    // And a works again.
    until("a to be well", async || a.engine.is_healthy()).await;
    drained(&b, "b").await;
    assert_eq!(b.run(r#"{"do":"nothing"}"#).await.status, Status::Success);
    a.stop().await;
    b.stop().await;
}

/// A way to the database on which an answer can be kept back.
struct Late {
    work: Arc<dyn WorkStore>,
    is_late: AtomicBool,
    kept: Notify,
    goes_on: Notify,
}

#[async_trait]
impl WorkStore for Late {
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let committed = self.work.commit(batch).await?;
        if !committed.claimed.is_empty() && self.is_late.swap(false, Ordering::SeqCst) {
            self.kept.notify_one();
            self.goes_on.notified().await;
        }
        Ok(committed)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.work.check_writable().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_told_of_when_its_lease_is_over_does_not_begin() {
    let store = database().await;
    let lease = Duration::from_secs(3);
    let mut late = None;
    let config = EngineConfig { host: "a".to_owned(), shared: true, lease, ..slots(1) };
    let a = join_on(store.clone(), config, |stores| {
        let work = Arc::new(Late { work: stores.work.clone(), is_late: AtomicBool::new(true), kept: Notify::new(), goes_on: Notify::new() });
        late = Some(work.clone());
        Stores { work, ..stores }
    })
    .await;
    let late = late.unwrap();
    let asking = tokio::spawn({
        let bench = Bench { engine: a.engine.clone(), script: a.script.clone(), store: store.clone() };
        async move { bench.trigger(r#"{"do":"wait"}"#).await }
    });
    late.kept.notified().await;
    let b = join(&store, "b", EngineConfig { lease, ..slots(1) }).await;
    until("b to take over", async || b.engine.load().running == 1).await;
    late.goes_on.notify_one();
    let trace = asking.await.unwrap();
    // b is busy: this one runs on a, when a holds nothing else any more.
    assert_eq!(a.run(r#"{"do":"nothing"}"#).await.status, Status::Success);
    assert_eq!((begun(&a), begun(&b)), (1, 1), "what b runs did not begin on a");
    cancel(&b, trace).await;
    assert_eq!(b.ended(trace).await.status, Status::Cancelled);
    a.stop().await;
    b.stop().await;
}

/// Nobody tells anything.
struct Silence;

#[async_trait]
impl Newsroom for Silence {
    async fn listen(&self, _: &str) -> Result<Box<dyn Listener>, StoreError> {
        Ok(Box::new(Self))
    }
}

#[async_trait]
impl Listener for Silence {
    async fn next(&mut self) -> Result<News, StoreError> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_that_are_lost_cost_time_and_nothing_else() {
    let store = database().await;
    let deaf = async |host: &str, config| {
        let config = EngineConfig { host: host.to_owned(), shared: true, lease: Duration::from_secs(3), ..config };
        join_on(store.clone(), config, |stores| Stores { news: Arc::new(Silence), ..stores }).await
    };
    let (a, b) = (deaf("a", slots(1)).await, deaf("b", slots(4)).await);
    drained(&a, "a").await;
    // Work, its end, and an order.
    assert_eq!(a.run(r#"{"do":"nothing"}"#).await.status, Status::Success);
    let trace = a.trigger(r#"{"do":"listen"}"#).await;
    until("it to run on b", async || b.engine.load().running == 1).await;
    cancel(&a, trace).await;
    assert_eq!(a.ended(trace).await.status, Status::Cancelled);
    // A host that is ordered by another to take no more.
    drained(&a, "b").await;
    a.stop().await;
    b.stop().await;
}
