//! A sandbox with modules in it, steps to give it, and a host that writes down what they do.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower_domain::clock::{Clock, SystemClock, Timestamp};
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::name::{Key, Name};
use tower_domain::split::{ChildRequest, SplitRefused};
use tower_domain::step::{Executor, HostTrouble, LogLine, ResultPage, Signal, Step, StepEnd, StepHost, Stop, Summary};
use tower_domain::task::{ActorType, Leg, Output, Status, TaskResult};
use tower_executors::wasm::{CompileIn, ModuleSource, WasmConfig, WasmExecutor, WorkerCommand, digest};
use ulid::Ulid;

/// Modules in memory, with a count of how often bytes were asked for.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) modules: Mutex<BTreeMap<Digest, Bytes>>,
    pub(crate) tags: Mutex<BTreeMap<String, Digest>>,
    pub(crate) reads: AtomicUsize,
    pub(crate) trouble: Mutex<bool>,
}

#[async_trait]
impl ModuleSource for Shelf {
    async fn resolve(&self, module: &ModuleRef) -> Result<Option<Digest>, HostTrouble> {
        Ok(match module {
            ModuleRef::Digest(digest) => self.modules.lock().unwrap().contains_key(digest).then_some(*digest),
            ModuleRef::Tag { .. } => self.tags.lock().unwrap().get(&module.to_string()).copied(),
        })
    }

    async fn bytes(&self, digest: &Digest) -> Result<Option<Bytes>, HostTrouble> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if *self.trouble.lock().unwrap() {
            return Err(HostTrouble("the store is away".to_owned()));
        }
        Ok(self.modules.lock().unwrap().get(digest).cloned())
    }
}

/// The defaults, with the worker that stands beside the tests.
pub(crate) fn config() -> WasmConfig {
    WasmConfig::new(CompileIn::Workers(WorkerCommand { program: env!("CARGO_BIN_EXE_compile-worker").into(), args: Vec::new() }))
}

pub(crate) struct Bench {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) executor: Arc<WasmExecutor>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: WasmConfig) -> Self {
        let shelf = Arc::new(Shelf::default());
        // A hundred slots are plenty, and every test makes its own pool.
        let config = WasmConfig { slots: config.slots.min(100), ..config };
        let executor = WasmExecutor::new(config, shelf.clone(), Arc::new(SystemClock)).unwrap();
        Self { shelf, executor: Arc::new(executor) }
    }

    /// Puts a module on the shelf; nothing is compiled.
    pub(crate) fn put(&self, wasm: impl Into<Bytes>) -> ModuleRef {
        let bytes = wasm.into();
        let digest = digest(&bytes);
        self.shelf.modules.lock().unwrap().insert(digest, bytes);
        ModuleRef::Digest(digest)
    }

    /// A step of a module, loaded already, so that times are those of the run.
    pub(crate) async fn step(&self, wasm: impl Into<Bytes>, params: Value) -> StepBuilder {
        let module = self.put(wasm);
        let ModuleRef::Digest(digest) = module else { unreachable!("put answers with a digest") };
        self.executor.load(digest).await.unwrap();
        step(&module, params)
    }

    pub(crate) async fn probe(&self, params: Value) -> StepBuilder {
        self.step(probe(), params).await
    }

    pub(crate) async fn run(&self, step: StepBuilder) -> StepEnd {
        self.executor.run(step.build(), Arc::new(FakeHost::new())).await
    }

    /// Runs beside the test, which goes on.
    pub(crate) fn start(&self, step: StepBuilder, host: &Arc<FakeHost>) -> tokio::task::JoinHandle<StepEnd> {
        let (executor, host) = (self.executor.clone(), host.clone());
        tokio::spawn(async move { executor.run(step.build(), host).await })
    }
}

pub(crate) fn probe() -> &'static [u8] {
    module("probe", "probe")
}

pub(crate) fn module(example: &str, module: &str) -> &'static [u8] {
    let example = command_tower_examples::find(example).unwrap();
    example.modules.iter().find(|candidate| candidate.name == module).unwrap().wasm
}

pub(crate) struct StepBuilder {
    pub(crate) step: Step,
    pub(crate) spec: Value,
}

pub(crate) fn step(module: &ModuleRef, params: Value) -> StepBuilder {
    let spec = json!({ "actor_type": "AGENT", "code_ref": format!("wasm://{module}") });
    let step = Step {
        task_id: TaskId(Ulid(7)),
        trace_id: TraceId(Ulid(8)),
        key: Key::root(),
        definition: definition(&spec),
        actor_type: ActorType::Agent,
        leg: Leg::Run,
        params: Json::of(&params).unwrap(),
        upstream: Vec::new(),
        summary: None,
        carried: None,
        attempt: 1,
        retries_left: 3,
        round_index: 0,
        layer: 0,
        depth: 0,
        may_split: true,
        fence: 1,
        timeout: Duration::from_secs(60),
        deadline: SystemClock.now().plus(Duration::from_secs(60)),
        session: None,
    };
    StepBuilder { step, spec }
}

pub(crate) fn definition(spec: &Value) -> Arc<Definition> {
    let spec: DefinitionSpec = serde_json::from_value(spec.clone()).unwrap();
    let now = Timestamp::from_micros(0);
    Arc::new(Definition { id: Name::new("tested").unwrap(), version: 1, spec, created_at: now, updated_at: now })
}

impl StepBuilder {
    pub(crate) fn timeout_ms(mut self, ms: u64) -> Self {
        self.step.timeout = Duration::from_millis(ms);
        self
    }

    pub(crate) fn spec(mut self, key: &str, value: Value) -> Self {
        self.spec[key] = value;
        self
    }

    pub(crate) fn actor(mut self, actor: ActorType) -> Self {
        self.step.actor_type = actor;
        self
    }

    pub(crate) fn leg(mut self, leg: Leg) -> Self {
        self.step.leg = leg;
        self
    }

    pub(crate) fn summary(mut self, expected: u32) -> Self {
        self.step.summary = Some(Summary { expected, succeeded: expected, ..Summary::default() });
        self
    }

    pub(crate) fn build(mut self) -> Arc<Step> {
        self.step.definition = definition(&self.spec);
        Arc::new(self.step)
    }
}

/// Writes down what a step does, and tells it what a test wants.
pub(crate) struct FakeHost {
    pub(crate) splits: Mutex<Vec<Vec<ChildRequest>>>,
    pub(crate) split_refusal: Mutex<Option<SplitRefused>>,
    pub(crate) progress: Mutex<Vec<(u8, String)>>,
    pub(crate) log: Mutex<Vec<LogLine>>,
    pub(crate) partial: Mutex<Vec<Json>>,
    pub(crate) results: Mutex<Vec<TaskResult>>,
    pub(crate) pages: Mutex<Vec<u32>>,
    pub(crate) trouble: Mutex<bool>,
    pub(crate) panics: Mutex<bool>,
    /// Whether it opens sockets, as a host whose store is a database does.
    pub(crate) connects: Mutex<bool>,
    pub(crate) signal: watch::Sender<Signal>,
    pub(crate) stop: watch::Sender<Option<Stop>>,
}

impl FakeHost {
    pub(crate) fn new() -> Self {
        Self {
            splits: Mutex::default(),
            split_refusal: Mutex::default(),
            progress: Mutex::default(),
            log: Mutex::default(),
            partial: Mutex::default(),
            results: Mutex::default(),
            pages: Mutex::default(),
            trouble: Mutex::default(),
            panics: Mutex::default(),
            connects: Mutex::default(),
            signal: watch::Sender::new(Signal::GoOn),
            stop: watch::Sender::new(None),
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|line| format!("{} {} {}", line.stream, line.level, line.message)).collect()
    }

    async fn check(&self) -> Result<(), HostTrouble> {
        if *self.connects.lock().unwrap() {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (near, far) = tokio::join!(tokio::net::TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            assert!(near.is_ok() && far.is_ok());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if *self.trouble.lock().unwrap() { Err(HostTrouble("the store is away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl StepHost for FakeHost {
    async fn split(&self, children: Vec<ChildRequest>) -> Result<Result<Vec<TaskId>, SplitRefused>, HostTrouble> {
        self.check().await?;
        if let Some(refusal) = self.split_refusal.lock().unwrap().clone() {
            return Ok(Err(refusal));
        }
        let ids = (0..children.len()).map(|n| TaskId(Ulid(1_000 + n as u128))).collect();
        self.splits.lock().unwrap().push(children);
        Ok(Ok(ids))
    }

    fn progress(&self, percent: u8, message: &str) {
        assert!(!*self.panics.lock().unwrap(), "the host panics");
        self.progress.lock().unwrap().push((percent, message.to_owned()));
    }

    fn log(&self, line: LogLine) {
        self.log.lock().unwrap().push(line);
    }

    fn partial_output(&self, value: Json) {
        self.partial.lock().unwrap().push(value);
    }

    fn signal(&self) -> Signal {
        self.signal.borrow().clone()
    }

    async fn signalled(&self, heard: &Signal) {
        let _ = self.signal.subscribe().wait_for(|signal| *signal != Signal::GoOn && (*signal != Signal::Pause || *heard != Signal::Pause)).await;
    }

    fn stop(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    async fn stopped(&self) -> Stop {
        self.stop.subscribe().wait_for(Option::is_some).await.unwrap().unwrap()
    }

    async fn results(&self, after: Option<TaskId>, limit: u32) -> Result<ResultPage, HostTrouble> {
        self.check().await?;
        let results = self.results.lock().unwrap();
        let from = after.map_or(0, |after| results.iter().position(|result| result.task_id == after).unwrap() + 1);
        let items: Vec<_> = results.iter().skip(from).take(limit as usize).cloned().collect();
        let next = if from + items.len() < results.len() { items.last().map(|last| last.task_id) } else { None };
        self.pages.lock().unwrap().push(u32::try_from(items.len()).unwrap());
        Ok(ResultPage { items, next })
    }

    fn set_sdk_session_id(&self, _id: String) {
        panic!("components have no such call");
    }
}

pub(crate) fn results(count: usize, output: &Json) -> Vec<TaskResult> {
    let result = |n: usize| TaskResult {
        task_id: TaskId(Ulid(5_000 + n as u128)),
        key: Key::new(&format!("k{n:05}")).unwrap(),
        status: Status::Success,
        output: Some(Output::Inline(output.clone())),
        error: None,
    };
    (0..count).map(result).collect()
}

/// The output of a step that ended well.
pub(crate) fn output(end: StepEnd) -> Value {
    match end {
        StepEnd::Finished { output, .. } => serde_json::from_str(output.as_str()).unwrap(),
        other => panic!("not finished: {other:?}"),
    }
}

/// Code and message of a step that failed for good.
#[track_caller]
pub(crate) fn fatal(end: StepEnd) -> (String, String) {
    failed(end, tower_domain::step::FailureClass::Fatal)
}

/// Code and message of a step that may be tried again.
#[track_caller]
pub(crate) fn retryable(end: StepEnd) -> (String, String) {
    failed(end, tower_domain::step::FailureClass::Retryable)
}

#[track_caller]
fn failed(end: StepEnd, class: tower_domain::step::FailureClass) -> (String, String) {
    match end {
        StepEnd::Failed(failure) if failure.class == class => (failure.error.code, failure.error.message),
        other => panic!("expected {class:?}, got {other:?}"),
    }
}

/// Waits for a condition, at most ten seconds.
pub(crate) async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(10), "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What a future took.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    (work.await, begin.elapsed())
}

/// Between the timeout and it plus what stopping may take. The catalogue has 50 ms on a machine that is not busy; test machines are.
#[track_caller]
pub(crate) fn on_time(took: Duration, timeout_ms: u64) {
    let (least, most) = (Duration::from_millis(timeout_ms), Duration::from_millis(timeout_ms + 300));
    assert!((least..=most).contains(&took), "took {took:?} with a timeout of {timeout_ms} ms");
}
