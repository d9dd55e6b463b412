//! The facade, and starting and stopping.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_domain::clock::Clock;
use tower_domain::codes;
use tower_domain::control::{ControlAction, ControlEvent};
use tower_domain::definition::{Definition, DefinitionSpec, FieldError, bounds, is_plain, labels_are_sound};
use tower_domain::event::EventType;
use tower_domain::id::{IdSource, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::limit::Gates;
use tower_domain::name::Name;
use tower_domain::schedule::{Plan, Window, check};
use tower_domain::step::{CodeProblem, Executor, Stop};
use tower_domain::task::{ActorType, clean};
use tower_domain::trace::{Trace, TriggerType};
use tower_store::definitions::Put;
use tower_store::read::KeyUse;
use tower_store::work::{Answer, Command, Expire, IdMaker, Idempotency, NewTrace, OutsideEvent, Rerun, RerunFrom, SettledEnd};
use tower_store::{StoreError, Stores};

use crate::catalog::{Catalog, Loaded};
use crate::commit;
use crate::committer;
use crate::config::EngineConfig;
use crate::feed::{Feed, Follow};
use crate::hosts::{self, Company};
use crate::inner::Inner;
use crate::journal::Journal;
use crate::orders::{
    Control, ControlOutcome, ControlRequest, DefinitionError, EventVerdict, IdempotencyKey, LaneLoad, Load, OrderError, ParamError, PostedEvent, RerunRequest,
    StoreFailure, Trigger, TriggerError, Triggered,
};
use crate::retention;
use crate::running::Claims;
use crate::scheduler::{self, SchedulerBell};

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The crash journal cannot be used.
    #[error("the crash journal {path} cannot be used")]
    Journal {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no thread for what commits.
    #[error("no thread can be started")]
    Thread(#[source] std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Runs traces. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

impl Engine {
    /// Takes back what this host held in an earlier life, and begins to claim.
    pub async fn start(
        config: EngineConfig,
        stores: Stores,
        executors: Vec<Arc<dyn Executor>>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, StartError> {
        let (journal, suspects) = match &config.crash_journal {
            None => (None, Vec::new()),
            Some(path) => {
                let opened = Journal::open(path, config.slots).map_err(|source| StartError::Journal { path: path.display().to_string(), source })?;
                (Some(opened.0), opened.1)
            }
        };
        let stop = CancellationToken::new();
        let (commits, receiver) = commit::channel();
        // Executors have as many for steps.
        let threads = u32::try_from(Handle::current().metrics().num_workers()).unwrap_or(u32::MAX);
        let inner = Arc::new(Inner {
            catalog: Catalog::new(stores.definitions.clone(), config.shared),
            claims: Claims::new(config.slots.max(1), config.claims_ahead, threads),
            feed: Arc::new(Feed::new(config.shared)),
            observers: Mutex::default(),
            waiters: Mutex::default(),
            scheduler: SchedulerBell::default(),
            company: Company::new(config.shared, config.lease),
            tracker: TaskTracker::new(),
            hard_stop: CancellationToken::new(),
            healthy: AtomicBool::new(true),
            config,
            stores,
            executors,
            clock,
            ids,
            commits,
            journal,
            stop,
        });
        for executor in &inner.executors {
            let commits = inner.commits.clone();
            executor.take_bell(Arc::new(move || commits.wake()));
        }
        // Queued before the committer runs: the first batch takes back, the same batch claims.
        inner.commits.tell(Command::Expire(Expire::Host { host: inner.config.host.clone(), suspects }));
        committer::start(receiver, inner.clone()).map_err(StartError::Thread)?;
        inner.tracker.spawn(inner.clone().write_reports());
        inner.tracker.spawn(hosts::beat(inner.clone()));
        inner.tracker.spawn(hosts::listen(inner.clone()));
        if inner.config.shared {
            inner.tracker.spawn(hosts::guard_leases(inner.clone()));
        }
        if let Some(kept) = inner.config.retention {
            inner.tracker.spawn(retention::run(inner.clone(), kept));
        }
        let engine = Self { inner };
        if engine.inner.config.schedules {
            engine.inner.tracker.spawn(scheduler::run(engine.clone()));
        }
        Ok(engine)
    }

    /// What it is built on: readers go straight there.
    pub fn stores(&self) -> &Stores {
        &self.inner.stores
    }

    /// What it was started with.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The clock that it was given.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// What makes its ids.
    pub fn ids(&self) -> &Arc<dyn IdSource> {
        &self.inner.ids
    }

    /// What it is doing.
    pub fn load(&self) -> Load {
        self.inner.claims.load()
    }

    /// What it does in lanes other than that of the process: how many steps it can hold in each, and how many it holds.
    pub fn lanes(&self) -> Vec<LaneLoad> {
        let mut running = self.inner.claims.elsewhere();
        let mut lanes: Vec<LaneLoad> = self
            .inner
            .executors
            .iter()
            .flat_map(|executor| executor.slots())
            .map(|(lane, slots)| LaneLoad { running: running.remove(&lane).unwrap_or(0), lane, slots })
            .collect();
        lanes.extend(running.into_iter().map(|(lane, running)| LaneLoad { lane, running, slots: running }));
        lanes
    }

    /// Whether the last thing that was to be written was written.
    pub fn is_healthy(&self) -> bool {
        self.inner.is_healthy()
    }

    /// Begins a trace. Answers once it is durable. A key that was used before is answered with what it began, whatever has become of the
    /// definition since.
    pub async fn trigger(&self, mut trigger: Trigger) -> Result<Triggered, TriggerError> {
        let loaded = self.inner.catalog.current(&trigger.definition_id).await.map_err(StoreFailure::from)?;
        let loaded = loaded.ok_or_else(|| TriggerError::UnknownDefinition(trigger.definition_id.clone()))?;
        let key = trigger.idempotency_key.clone();
        let session = trigger.session_id;
        if let Some(id) = session {
            match self.session_for(id, trigger.user_id.as_deref()).await {
                Ok(session) => trigger.user_id = Some(session.user_id),
                Err(refused) => return self.begun_before(key, refused).await,
            }
        }
        // By hand it needs to be told when; its schedule knows.
        let needs_time = trigger.window.unwrap_or(loaded.definition.spec.window) == Window::Scheduled && trigger.run_at.is_none();
        let no_time = || {
            TriggerError::BadField(FieldError {
                pointer: "/run_at",
                message: "window SCHEDULED: say when it is to run, or trigger it with window IMMEDIATE".to_owned(),
            })
        };
        let new = match if needs_time { Err(no_time()) } else { self.new_trace(trigger, &loaded) } {
            Ok(new) => new,
            Err(refused) => return self.begun_before(key, refused).await,
        };
        match self.inner.commits.ask(Command::Submit(Box::new(new))).await.ok_or(TriggerError::ShuttingDown)?? {
            Answer::Submitted { trace_id, root_task_id } => Ok(Triggered { trace_id, root_task_id, replayed: false }),
            Answer::Replayed { trace_id, root_task_id } => Ok(Triggered { trace_id, root_task_id, replayed: true }),
            Answer::KeyTaken { trace_id } => Err(TriggerError::KeyTaken { trace_id }),
            Answer::SessionClosed => Err(session.map_or(TriggerError::ShuttingDown, TriggerError::SessionClosed)),
            other => Err(StoreFailure::from(StoreError::Inconsistent { table: "traces", what: format!("a new trace was answered with {other:?}") }).into()),
        }
    }

    /// What the key began, or else the refusal.
    async fn begun_before(&self, key: Option<IdempotencyKey>, refused: TriggerError) -> Result<Triggered, TriggerError> {
        let Some(key) = key else { return Err(refused) };
        let Idempotency { key, fingerprint, not_before } = self.idempotency(key);
        match self.inner.stores.read.key_use(&key, not_before).await.map_err(StoreFailure::from)? {
            None => Err(refused),
            Some(known) if known.fingerprint != fingerprint => Err(TriggerError::KeyTaken { trace_id: known.trace_id }),
            Some(KeyUse { trace_id, root_task_id, .. }) => Ok(Triggered { trace_id, root_task_id, replayed: true }),
        }
    }

    pub(crate) fn new_trace(&self, trigger: Trigger, loaded: &Loaded) -> Result<NewTrace, TriggerError> {
        let spec = &loaded.definition.spec;
        if !spec.is_active {
            return Err(TriggerError::Inactive(loaded.definition.id.clone()));
        }
        let bad = |pointer, message: String| TriggerError::BadField(FieldError { pointer, message });
        let params = spec.default_params.overlaid(&trigger.params);
        if params.as_str().len() > bounds::JSON_BYTES_MAX {
            return Err(bad("/params", format!("at most {} bytes with the definition's defaults; upload larger inputs as files", bounds::JSON_BYTES_MAX)));
        }
        let errors = loaded.check(&params);
        if !errors.is_empty() {
            return Err(TriggerError::BadParams(errors));
        }
        let priority = trigger.priority.unwrap_or(spec.priority);
        if !bounds::PRIORITY.contains(&priority) {
            return Err(bad("/priority", "1 to 10, 10 the most urgent".to_owned()));
        }
        if !labels_are_sound(&trigger.labels) {
            return Err(bad("/labels", tower_domain::definition::LABEL_RULE.to_owned()));
        }
        let user_id = trigger.user_id.unwrap_or_else(|| spec.user_id.clone());
        if !is_plain(&user_id) {
            return Err(bad("/user_id", format!("at most {} bytes of text without control characters", bounds::TEXT_BYTES_MAX)));
        }
        let gates = self.gates(&loaded.definition, &params, &user_id);
        Ok(NewTrace {
            trace_id: self.inner.ids.trace(),
            root_task_id: self.inner.ids.task(),
            definition_id: loaded.definition.id.clone(),
            definition_version: loaded.definition.version,
            user_id,
            trigger_type: trigger.trigger_type,
            triggered_by: clean(&trigger.triggered_by, bounds::TEXT_BYTES_MAX),
            idempotency: trigger.idempotency_key.map(|key| self.idempotency(key)),
            params,
            labels: trigger.labels,
            actor_type: spec.actor_type,
            priority,
            timeout_sec: spec.timeout_sec,
            max_retries: spec.max_retries,
            aggregation: spec.aggregation,
            is_leaf_agent: spec.actor_type == ActorType::Agent && spec.max_layers == 0,
            run_after: trigger.run_at,
            window: trigger.window.unwrap_or(spec.window),
            lane: spec.code_ref.lane(),
            gates,
            rerun: None,
            cron_trigger_time: None,
            session_id: trigger.session_id,
        })
    }

    /// What a root passes before it can be claimed.
    fn gates(&self, definition: &Definition, params: &Json, user_id: &str) -> Gates {
        let user = self.inner.config.user_max_concurrent.map(|_| user_id);
        Gates::of(&definition.id, &definition.spec.limits(), params, user)
    }

    fn idempotency(&self, key: IdempotencyKey) -> Idempotency {
        Idempotency { key: key.key, fingerprint: key.fingerprint, not_before: self.inner.config.keys_not_before(self.inner.clock.now()) }
    }

    /// Runs an ended trace again, as a new trace that takes over what succeeded.
    pub async fn rerun(&self, request: RerunRequest) -> Result<Triggered, OrderError> {
        let RerunRequest { trace_id: trace, from, params, triggered_by: by, reason, idempotency_key } = request;
        let old = self.inner.stores.read.trace(trace).await.map_err(StoreFailure::from)?.ok_or(OrderError::NotFound)?;
        let from = match from {
            None => None,
            Some(task) => Some(self.rerun_from(trace, task, &params).await?),
        };
        let loaded = self.inner.catalog.version(&old.definition_id, old.definition_version).await.map_err(StoreFailure::from)?.ok_or(OrderError::NotFound)?;
        let spec = &loaded.definition.spec;
        let ids = self.inner.ids.clone();
        let by = clean(&by, bounds::TEXT_BYTES_MAX);
        let first = from.as_ref().map(|from| from.task_id);
        let order = self.order(ControlAction::Retry, trace, first, by.clone(), &reason);
        let gates = self.gates(&loaded.definition, &old.params, &old.user_id);
        let new = NewTrace {
            trace_id: ids.trace(),
            root_task_id: ids.task(),
            definition_id: old.definition_id,
            definition_version: old.definition_version,
            user_id: old.user_id,
            trigger_type: TriggerType::Replay,
            triggered_by: by,
            idempotency: idempotency_key.map(|key| self.idempotency(key)),
            params: old.params,
            labels: old.labels,
            actor_type: spec.actor_type,
            priority: spec.priority,
            timeout_sec: spec.timeout_sec,
            max_retries: spec.max_retries,
            aggregation: spec.aggregation,
            is_leaf_agent: spec.actor_type == ActorType::Agent && spec.max_layers == 0,
            run_after: None,
            window: spec.window,
            lane: spec.code_ref.lane(),
            gates,
            rerun: Some(Rerun { of: trace, from, order, ids: IdMaker(Arc::new(move || ids.task())) }),
            cron_trigger_time: None,
            session_id: old.session_id,
        };
        match self.inner.commits.ask(Command::Submit(Box::new(new))).await.ok_or(OrderError::ShuttingDown)?? {
            Answer::Submitted { trace_id, root_task_id } => Ok(Triggered { trace_id, root_task_id, replayed: false }),
            Answer::Replayed { trace_id, root_task_id } => Ok(Triggered { trace_id, root_task_id, replayed: true }),
            Answer::NotEnded => Err(OrderError::NotEnded(trace)),
            Answer::SessionClosed => Err(OrderError::SessionClosed(trace)),
            Answer::NothingToRetry => Err(OrderError::NothingToRetry(trace)),
            Answer::NotReached => Err(first.map_or(OrderError::NotFound, OrderError::NotReached)),
            Answer::KeyTaken { trace_id } => Err(OrderError::KeyTaken { trace_id }),
            _ => Err(OrderError::NotFound),
        }
    }

    /// The task with its params for this time, checked as at a trigger.
    async fn rerun_from(&self, trace: TraceId, task_id: TaskId, params: &Json) -> Result<RerunFrom, OrderError> {
        let task = self.inner.stores.read.task(task_id).await.map_err(StoreFailure::from)?;
        let task = task.filter(|task| task.trace_id == trace).ok_or(OrderError::NotFound)?;
        let loaded = self.inner.catalog.version(&task.job_id, task.definition_version).await.map_err(StoreFailure::from)?.ok_or(OrderError::NotFound)?;
        let params = task.input_params.overlaid(params);
        let mut errors = loaded.check(&params);
        if params.as_str().len() > bounds::JSON_BYTES_MAX {
            errors.push(ParamError { pointer: String::new(), message: format!("at most {} bytes with the task's own", bounds::JSON_BYTES_MAX) });
        }
        if errors.is_empty() { Ok(RerunFrom { task_id, params: Some(params) }) } else { Err(OrderError::BadParams(errors)) }
    }

    pub(crate) fn order(&self, action: ControlAction, trace_id: TraceId, task_id: Option<TaskId>, by: String, reason: &str) -> ControlEvent {
        ControlEvent {
            id: self.inner.ids.control_event(),
            trace_id,
            task_id,
            action,
            triggered_by: by,
            reason: clean(reason, bounds::TEXT_BYTES_MAX),
            created_at: self.inner.clock.now(),
        }
    }

    /// Ends, holds or sets going a trace or a subtree. Once a cancel or a pause is answered, no task of it begins any more.
    pub async fn control(&self, request: ControlRequest) -> Result<ControlOutcome, OrderError> {
        let action = match request.control {
            Control::Cancel => ControlAction::Cancel,
            Control::Pause => ControlAction::Pause,
            Control::Resume => ControlAction::Run,
        };
        let order = self.order(action, request.trace_id, request.task_id, clean(&request.triggered_by, bounds::TEXT_BYTES_MAX), &request.reason);
        match self.inner.commits.ask(Command::Control(order)).await.ok_or(OrderError::ShuttingDown)?? {
            Answer::Ordered { done, running } => Ok(ControlOutcome::Ordered { done, running }),
            Answer::NothingToDo => Ok(ControlOutcome::NothingToDo),
            Answer::AlreadyCancelling => Ok(ControlOutcome::AlreadyCancelling),
            Answer::AlreadyEnded => Ok(ControlOutcome::AlreadyEnded),
            _ => Err(OrderError::NotFound),
        }
    }

    /// Keeps what an outside caller reports. One verdict an event, in order.
    pub async fn post_events(&self, events: Vec<PostedEvent>) -> Result<Vec<EventVerdict>, OrderError> {
        let asked = events.into_iter().map(|event| async {
            let command = match outside_event(event) {
                Ok(event) => Command::PostEvent(event),
                Err(verdict) => return Ok(verdict),
            };
            let answer = self.inner.commits.ask(command).await.ok_or(OrderError::ShuttingDown)??;
            Ok(match answer {
                Answer::Done => EventVerdict::Accepted,
                Answer::Duplicate => EventVerdict::Duplicate,
                Answer::Stale { status } => EventVerdict::Stale { status },
                Answer::EventIdTaken => {
                    EventVerdict::Rejected { code: codes::EVENT_ID_TAKEN.name, message: "another event was accepted under this id".to_owned() }
                }
                _ => EventVerdict::Rejected { code: codes::NOT_FOUND.name, message: "there is no such task in this trace".to_owned() },
            })
        });
        futures::future::try_join_all(asked).await
    }

    /// What is wrong with a schedule that fires more often than the operator allows.
    pub fn too_often(&self, spec: &DefinitionSpec) -> Option<FieldError> {
        check::too_often(spec, self.inner.config.schedule_interval_min)
    }

    /// Saves a definition, once it is known to be sound and its code to be there.
    pub async fn put_definition(&self, id: &Name, spec: DefinitionSpec, expected: Option<u32>) -> Result<Put, DefinitionError> {
        let mut fields = spec.check();
        // One that is switched off fires never; else it could not be switched off once the operator allows less.
        if spec.is_active {
            fields.extend(self.too_often(&spec));
        }
        if spec.params_schema.as_ref().is_some_and(|schema| schema.as_str().len() > bounds::JSON_BYTES_MAX) {
            fields.push(FieldError { pointer: "/params_schema", message: format!("at most {} bytes", bounds::JSON_BYTES_MAX) });
        }
        if !fields.is_empty() {
            return Err(DefinitionError::Fields(fields));
        }
        if let Some(schema) = &spec.params_schema {
            let compiled = crate::catalog::compile(schema).map_err(DefinitionError::Schema)?;
            // Defaults may leave required params to the trigger, if there is one; what they do say must fit.
            let alone = Plan::of(&spec).is_some();
            let errors: Vec<ParamError> =
                crate::catalog::errors_of(&compiled, &spec.default_params).into_iter().filter(|error| alone || !error.pointer.is_empty()).collect();
            if !errors.is_empty() {
                return Err(DefinitionError::Defaults(errors));
            }
        }
        // One that is switched off needs no code; else it could not be switched off once its code or its folder is gone.
        if spec.is_active {
            match self.inner.executors.iter().find(|executor| executor.runs(&spec.code_ref)) {
                Some(executor) => executor.check(&spec).await?,
                None => return Err(CodeProblem { code: codes::NO_EXECUTOR.name, message: format!("this host has no executor for {}", spec.code_ref) }.into()),
            }
        }
        let put = self.inner.stores.definitions.put(id, &spec, expected, self.inner.clock.now()).await.map_err(StoreFailure::from)?;
        self.inner.catalog.forget(id);
        self.inner.scheduler.ring();
        // Tasks may have waited for a limit that is another now.
        self.inner.commits.wake();
        Ok(put)
    }

    /// A reader of a trace's events from a point of its history on.
    pub fn follow(&self, trace: TraceId, after_seq: u64) -> Follow {
        Follow::new(self.inner.feed.clone(), self.inner.stores.read.clone(), trace, after_seq)
    }

    /// The trace as it is when it has ended or the time is up; none: there is no such trace.
    pub async fn wait_for_end(&self, trace: TraceId, at_most: Duration) -> Result<Option<Trace>, OrderError> {
        // Before looking, so that no end falls between the two.
        let mut ended = {
            let mut waiters = self.inner.waiters.lock();
            waiters.entry(trace).or_insert_with(|| watch::channel(()).0).subscribe()
        };
        let deadline = tokio::time::Instant::now() + at_most;
        let mut found = self.inner.stores.read.trace(trace).await.map_err(StoreFailure::from)?;
        while found.as_ref().is_some_and(|found| !found.status.is_terminal()) && tokio::time::Instant::now() < deadline {
            // The sender is dropped when the trace ends here, and sends when another host tells of it; that may be lost.
            let longest = if self.inner.config.shared { hosts::LOOK_EVERY } else { at_most };
            let look = deadline.min(tokio::time::Instant::now() + longest);
            let gone = matches!(tokio::time::timeout_at(look, ended.changed()).await, Ok(Err(_)));
            found = self.inner.stores.read.trace(trace).await.map_err(StoreFailure::from)?;
            if gone {
                break;
            }
        }
        drop(ended);
        let mut waiters = self.inner.waiters.lock();
        if waiters.get(&trace).is_some_and(|sender| sender.receiver_count() == 0) {
            waiters.remove(&trace);
        }
        Ok(found)
    }

    /// To be called before the process ends by order, with steps still running: they run again, and none is suspected of the death.
    pub fn abandon(&self) {
        if let Some(journal) = &self.inner.journal {
            journal.clear();
        }
    }

    /// Takes no more work; lets running steps end for `grace`, then stops them and gives their claims back; ends when all is written.
    pub async fn shutdown(&self, grace: Duration) {
        let now = self.inner.clock.now();
        for held in self.inner.claims.close() {
            self.inner.settle(&held.claimed, now, SettledEnd::Released);
        }
        // Behind whatever is at the disk now: what that claims comes back before this is answered.
        let renew = Command::Renew { host: self.inner.config.host.clone(), held: self.inner.claims.held(), lease: Some(self.inner.config.lease) };
        let _ = self.inner.commits.ask(renew).await;
        if tokio::time::timeout(grace, self.inner.claims.idle()).await.is_err() {
            self.inner.claims.stop_all(Stop::Released);
            self.inner.claims.idle().await;
        }
        self.inner.hard_stop.cancel();
        self.inner.stop.cancel();
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }
}

/// What may come from outside. Outcomes need the token of the attempt that they end, which only outside workers are given.
fn outside_event(event: PostedEvent) -> Result<OutsideEvent, EventVerdict> {
    #[derive(serde::Deserialize)]
    struct Progress {
        percent: u8,
        #[serde(default)]
        message: String,
    }
    let rejected = |code, message: &str| EventVerdict::Rejected { code, message: message.to_owned() };
    let id_ok = (1..=tower_domain::event::EVENT_ID_BYTES_MAX).contains(&event.event_id.len()) && event.event_id.bytes().all(|byte| byte.is_ascii_graphic());
    if !id_ok {
        return Err(rejected(codes::BAD_EVENT_ID.name, "event_id is 1 to 128 visible ASCII characters"));
    }
    match event.event_type {
        EventType::Progress => {
            let payload = event.payload.clone().unwrap_or_else(Json::empty_object);
            let progress = payload.read::<Progress>().ok().filter(|progress| progress.percent <= 100);
            let progress = progress
                .ok_or_else(|| rejected(codes::BAD_PAYLOAD.name, "the payload of PROGRESS is an object with `percent` 0 to 100 and, if wanted, `message`"))?;
            let message = clean(&progress.message, 1_000);
            Ok(OutsideEvent {
                event_id: event.event_id,
                trace_id: event.trace_id,
                task_id: event.task_id,
                event_type: event.event_type,
                progress: Some((progress.percent, message)),
                payload: event.payload,
            })
        }
        other if other.may_come_from_outside() => {
            Err(rejected(codes::NOT_YOURS.name, "the host runs this task: STARTED and outcomes come from it alone; PROGRESS is welcome"))
        }
        _ => Err(rejected(codes::BAD_EVENT_TYPE.name, "from outside come STARTED, PROGRESS, COMPLETED, FAILED and CANCELLED")),
    }
}
