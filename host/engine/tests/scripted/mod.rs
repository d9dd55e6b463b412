//! An engine on a real database, with an executor that does what a script says instead of running guests.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tower_domain::clock::SystemClock;
use tower_domain::code_ref::CodeRef;
use tower_domain::definition::DefinitionSpec;
use tower_domain::id::{MonotonicIds, TraceId};
use tower_domain::json::Json;
use tower_domain::name::Name;
use tower_domain::split::ChildRequest;
use tower_domain::step::{CodeProblem, Executor, Signal, Step, StepEnd, StepFailure, StepHost, Stop};
use tower_domain::task::Leg;
use tower_domain::trace::{Trace, TriggerType};
use tower_engine::orders::Trigger;
use tower_engine::{Engine, EngineConfig};
use tower_store::Stores;
use tower_store::blobs::MemoryBlobs;
use tower_store::sqlite::{self, SqliteOptions, SqliteStore};

/// Runs `{"do": …}`.
pub(crate) struct Scripted {
    /// Steps begun.
    pub(crate) begun: AtomicU64,
    /// Steps that run right now, and the most at a time.
    pub(crate) now: AtomicU64,
    pub(crate) most: AtomicU64,
    /// Lets steps that do `wave` end.
    pub(crate) wave: Semaphore,
}

#[derive(serde::Deserialize)]
struct Script {
    #[serde(rename = "do")]
    what: String,
    #[serde(default)]
    n: u64,
    #[serde(default)]
    of: String,
}

#[async_trait]
impl Executor for Scripted {
    fn runs(&self, _: &CodeRef) -> bool {
        true
    }

    async fn check(&self, _: &DefinitionSpec) -> Result<(), CodeProblem> {
        Ok(())
    }

    async fn run(&self, step: Arc<Step>, host: Arc<dyn StepHost>) -> StepEnd {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let end = self.act(&step, host).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        end
    }
}

impl Default for Scripted {
    fn default() -> Self {
        Self { begun: AtomicU64::new(0), now: AtomicU64::new(0), most: AtomicU64::new(0), wave: Semaphore::new(0) }
    }
}

impl Scripted {
    async fn act(&self, step: &Step, host: Arc<dyn StepHost>) -> StepEnd {
        let done = |output: String| StepEnd::Finished { output: Json::trusted(output), last: false };
        if step.leg == Leg::Aggregate {
            return done(serde_json::to_string(&step.summary).unwrap());
        }
        let script: Script = step.params.read().unwrap();
        match script.what.as_str() {
            "nothing" => done("null".to_owned()),
            "wait" => match host.stopped().await {
                Stop::Cancelled => StepEnd::Cancelled,
                Stop::Released => StepEnd::Released,
            },
            "wave" => {
                self.wave.acquire().await.unwrap().forget();
                done("null".to_owned())
            }
            "nap" => {
                tokio::time::sleep(Duration::from_millis(200 + script.n)).await;
                done("1".to_owned())
            }
            "listen" => {
                host.signalled(&Signal::GoOn).await;
                StepEnd::Cancelled
            }
            "fail" => StepEnd::Failed(StepFailure::retryable("AGAIN", "not yet")),
            "until" if u64::from(step.attempt) < script.n => StepEnd::Failed(StepFailure::retryable("AGAIN", "not yet")),
            "until" => done("1".to_owned()),
            "panic" => panic!("as the script says"),
            "key" => done(format!("\"{}\"", step.idempotency_key())),
            "large" => done(format!("\"{}\"", "x".repeat(usize::try_from(script.n).unwrap()))),
            "split" => {
                let params = format!("{{\"do\":\"{}\"}}", script.of);
                let child = |n| ChildRequest { key: format!("k{n}"), definition: "work".to_owned(), params: params.clone(), ..ChildRequest::default() };
                match host.split((0..script.n).map(child).collect()).await.unwrap() {
                    Ok(_) => done("\"carried\"".to_owned()),
                    Err(refused) => StepEnd::Failed(StepFailure::fatal("SPLIT", refused.to_string())),
                }
            }
            other => StepEnd::Failed(StepFailure::fatal("SCRIPT", other)),
        }
    }
}

/// An engine with definition `work` (AGENT, two quick retries).
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) script: Arc<Scripted>,
    pub(crate) store: SqliteStore,
}

pub(crate) fn config() -> EngineConfig {
    EngineConfig { cancel_grace: Duration::from_millis(100), ..EngineConfig::new("test") }
}

pub(crate) async fn start(options: SqliteOptions, config: EngineConfig) -> Bench {
    start_on(options, config, |stores| stores).await
}

/// With stores that stand before the real ones.
pub(crate) async fn start_on(options: SqliteOptions, config: EngineConfig, before: impl FnOnce(Stores) -> Stores) -> Bench {
    join_on(sqlite::open(options).await.unwrap(), config, before).await
}

/// A host among others on an open database.
pub(crate) async fn join(store: &SqliteStore, host: &str, config: EngineConfig) -> Bench {
    join_on(store.clone(), EngineConfig { host: host.to_owned(), shared: true, ..config }, |stores| stores).await
}

pub(crate) async fn join_on(store: SqliteStore, config: EngineConfig, before: impl FnOnce(Stores) -> Stores) -> Bench {
    let script = Arc::new(Scripted::default());
    let clock = Arc::new(SystemClock);
    let ids = Arc::new(MonotonicIds::new(SystemClock));
    let engine = Engine::start(config, before(store.stores(Arc::new(MemoryBlobs::default()))), vec![script.clone()], clock, ids).await.unwrap();
    let spec = r#"{"actor_type":"AGENT","code_ref":"wasm://x","max_retries":2,"retry":{"initial_sec":0.01,"factor":1,"max_sec":0.01,"jitter":false},"max_children":1000000}"#;
    engine.put_definition(&name("work"), serde_json::from_str(spec).unwrap(), None).await.unwrap();
    Bench { engine, script, store }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl Bench {
    pub(crate) async fn trigger(&self, params: &str) -> TraceId {
        let trigger = Trigger {
            window: None,
            definition_id: name("work"),
            params: Json::parse(params, 10_000).unwrap(),
            priority: None,
            run_at: None,
            user_id: None,
            labels: Default::default(),
            trigger_type: TriggerType::Api,
            triggered_by: "test".to_owned(),
            idempotency_key: None,
            session_id: None,
        };
        self.engine.trigger(trigger).await.unwrap().trace_id
    }

    pub(crate) async fn ended(&self, trace: TraceId) -> Trace {
        let trace = self.engine.wait_for_end(trace, Duration::from_secs(60)).await.unwrap().unwrap();
        assert!(trace.status.is_terminal(), "{trace:?}");
        trace
    }

    pub(crate) async fn run(&self, params: &str) -> Trace {
        let trace = self.trigger(params).await;
        self.ended(trace).await
    }

    pub(crate) async fn stop(self) {
        self.engine.shutdown(Duration::from_secs(5)).await;
        let violations = tower_store::invariants::check(&self.store).await.unwrap();
        assert!(violations.is_empty(), "{violations:?}");
    }
}
