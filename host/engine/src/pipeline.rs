//! From a claim to its outcome: one task a slot, which goes on with the next claim as long as there is one.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::{CodeRef, Digest, Lane};
use tower_domain::codes;
use tower_domain::definition::DefinitionSpec;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::schedule::ScheduleType;
use tower_domain::split::Splitter;
use tower_domain::step::{Executor, FailureClass, Settled, Signal, Step, StepEnd, StepFailure, StepHost, Stop, Work};
use tower_domain::task::{INLINE_OUTPUT_BYTES_MAX, Output, Status};
use tower_store::StoreError;
use tower_store::artifacts::{self, ARTIFACT_URL, Origin};
use tower_store::fault::{self, Point};
use tower_store::work::{Answer, Claimed, Command, RoundEnd, Settle, SettledEnd};

use crate::catalog::Loaded;
use crate::committer::{RETRY_AFTER, chain};
use crate::inner::Inner;
use crate::ledger;
use crate::observer::Observer;
use crate::running::{Begin, Held, Orders, Then};
use crate::step_host::EngineStepHost;

/// How long a slot goes on with step after step before others on its thread have their turn.
const TURN: Duration = Duration::from_millis(1);

impl Inner {
    /// Begins what was claimed, as far as there are slots.
    pub(crate) fn begin(self: &Arc<Self>, claimed: Vec<Claimed>) {
        match self.claims.take(claimed) {
            Ok(Begin { elsewhere, slots }) => {
                for held in elsewhere {
                    let inner = self.clone();
                    self.tracker.spawn(async move {
                        inner.run_to_its_end(held, || false).await;
                        inner.commits.wake();
                    });
                }
                self.start_slots(slots);
            }
            Err(claimed) => {
                let now = self.clock.now();
                claimed.iter().for_each(|claimed| self.settle(claimed, now, SettledEnd::Released));
            }
        }
    }

    /// So many slots look for claims, on the threads of their steps.
    fn start_slots(self: &Arc<Self>, slots: u32) {
        for _ in 0..slots {
            let slot: Work = Box::pin(self.tracker.track_future(self.clone().run_slot()));
            if let Some(slot) = self.executors.iter().try_fold(slot, |slot, executor| executor.carry(slot)) {
                tokio::spawn(slot);
            }
        }
    }

    /// Runs a claim, and those that find its slot free. What it runs is decided when it has a thread, so that whoever's turn it is then waits for
    /// no other step.
    async fn run_slot(self: Arc<Self>) {
        let mut turn = Instant::now();
        while let Some((held, more)) = self.claims.pick() {
            self.start_slots(more);
            match self.run_to_its_end(held, || turn.elapsed() > TURN).await {
                Then::GoOn => {}
                // A step may be over before it waited for anything. Others wait for this thread, but not each time: whoever lets them have it goes on on another.
                Then::Yield => {
                    tokio::task::yield_now().await;
                    turn = Instant::now();
                }
                Then::MakeWay => return,
                Then::Rest => return self.commits.free(),
            }
        }
    }

    async fn run_to_its_end(self: &Arc<Self>, held: Held, had_its_turn: impl FnOnce() -> bool) -> Then {
        let (id, lane, orders) = (held.claimed.task_id, held.claimed.lane.clone(), held.orders.clone());
        // A claim that is lost to a bug lapses with its lease; its slot must not be lost with it.
        if AssertUnwindSafe(self.run_claim(held)).catch_unwind().await.is_err() {
            tracing::error!(task.id = %id, "a claim was not settled");
        }
        self.claims.end(id, &lane, &orders, had_its_turn())
    }

    /// Tells running steps what is wanted of them, and ends or gives back those that had not begun.
    pub(crate) fn heed(self: &Arc<Self>, to_tell: &[(TaskId, Signal)]) {
        if to_tell.is_empty() {
            return;
        }
        let (unbegun, cancelled) = self.claims.tell(to_tell);
        for held in unbegun {
            let end = if held.orders.is_cancelled() { SettledEnd::Cancelled } else { SettledEnd::Released };
            self.settle(&held.claimed, self.clock.now(), end);
        }
        if cancelled.is_empty() {
            return;
        }
        let (inner, grace) = (self.clone(), self.config.cancel_grace);
        self.tracker.spawn(async move {
            tokio::select! {
                biased;
                () = tokio::time::sleep(grace) => {}
                () = inner.hard_stop.cancelled() => {}
            }
            cancelled.iter().for_each(|orders| orders.stop_now(Stop::Cancelled));
        });
    }

    /// Tells those who watch or wait of what is durable now.
    pub(crate) fn tell_readers(&self, events: Vec<TaskEvent>, ended: &[(TraceId, Status)]) {
        self.feed.publish(events, ended);
        if !ended.is_empty() {
            let mut waiters = self.waiters.lock();
            for (trace, _) in ended {
                waiters.remove(trace);
            }
        }
    }

    pub(crate) fn settle(&self, claimed: &Claimed, started_at: Timestamp, end: SettledEnd) {
        self.settle_with(claimed, started_at, end, None);
    }

    /// The same, with what the code calls its session from now on.
    fn settle_with(&self, claimed: &Claimed, started_at: Timestamp, end: SettledEnd, sdk_session_id: Option<String>) {
        let settle = Settle { task_id: claimed.task_id, fence: claimed.fence, started_at, end, sdk_session_id };
        self.commits.tell_of(claimed.trace_id, Command::Settle(Box::new(settle)));
    }

    async fn run_claim(self: &Arc<Self>, held: Held) {
        let Held { mut claimed, orders } = held;
        let _ = fault::point(Point::Claimed).await;
        let started_at = self.clock.now();
        let definition = || self.catalog.version(&claimed.definition_id, claimed.definition_version);
        let loaded = match patiently(&orders, definition).await {
            None => return self.settle(&claimed, started_at, SettledEnd::Released),
            Some(Ok(Some(loaded))) => loaded,
            Some(Ok(None)) => {
                let message = format!("definition {} version {} is missing", claimed.definition_id, claimed.definition_version);
                let failure = StepFailure::fatal(codes::DEFINITION_MISSING.name, message);
                return self.settle(&claimed, started_at, SettledEnd::Failed { failure, delay: Duration::ZERO });
            }
            Some(Err(error)) => {
                let failure = StepFailure::retryable(codes::HOST_TROUBLE.name, error.to_string());
                return self.settle(&claimed, started_at, SettledEnd::Failed { failure, delay: Duration::from_secs(1) });
            }
        };
        let spec = &loaded.definition.spec;
        let splitter = Splitter {
            actor_type: claimed.actor_type,
            layer: claimed.layer,
            depth: claimed.depth,
            max_layers: spec.max_layers,
            max_children: spec.max_children,
            trace_room: self.config.trace_tasks_max.saturating_sub(claimed.trace_tasks),
        };
        let observer = Arc::new(Observer::new(claimed.trace_id, claimed.task_id, claimed.fence, spec.resource_profile.log_bytes));
        let host = Arc::new(EngineStepHost {
            inner: self.clone(),
            observer: observer.clone(),
            orders: orders.clone(),
            task_id: claimed.task_id,
            leg: claimed.leg,
            splitter,
            has_children: claimed.children.split > 0,
            trace_created_at: claimed.trace_created_at,
            staging: tokio::sync::Mutex::new(None),
            sdk_session_id: parking_lot::Mutex::new(None),
        });
        let (end, has_begun) = match self.carried(&mut claimed, &orders).await {
            Ok(carried) => match self.session_of(&claimed, &loaded).await {
                Ok(session) => {
                    let step = step_of(&mut claimed, &loaded, carried, splitter.may_split(), started_at);
                    let running = self.execute(Step { session: session.clone(), ..step }, host.clone());
                    let (end, has_begun) = self.within_quota(session.as_ref(), &orders, running).await;
                    (self.left(session.as_ref(), end).await, has_begun)
                }
                Err(end) => (end, false),
            },
            Err(end) => (end, false),
        };
        let end = self.settled(end, &host, &loaded, &claimed).await;
        if has_begun {
            ledger::ended(&claimed, &end);
        }
        let _ = fault::point(Point::StepEnded).await;
        // In this order: what the step reported belongs before its end.
        observer.collect(|observe| self.commits.tell_of(claimed.trace_id, Command::Observe(observe)));
        let sdk_session_id = host.sdk_session_id.lock().take();
        match self.executor_of(&loaded.definition.spec.code_ref).filter(|_| claimed.lane != Lane::Process) {
            None => self.settle_with(&claimed, started_at, end, sdk_session_id),
            Some(executor) => {
                let settle = Settle { task_id: claimed.task_id, fence: claimed.fence, started_at, end, sdk_session_id };
                let settled = match self.commits.ask_of(claimed.trace_id, Command::Settle(Box::new(settle))).await {
                    Some(Ok(Answer::Done)) => Settled::Kept,
                    Some(Ok(_) | Err(_)) => Settled::Refused,
                    None => Settled::Unknown,
                };
                executor.settled(claimed.task_id, claimed.fence, settled);
            }
        }
    }

    fn executor_of(&self, code: &CodeRef) -> Option<&Arc<dyn Executor>> {
        self.executors.iter().find(|executor| executor.runs(code))
    }

    /// Also answers whether its code began.
    async fn execute(&self, step: Step, host: Arc<dyn StepHost>) -> (StepEnd, bool) {
        let code = &step.definition.spec.code_ref;
        let Some(executor) = self.executor_of(code) else {
            return (StepEnd::Failed(StepFailure::fatal(codes::NO_EXECUTOR.name, format!("this host has no executor for {code}"))), false);
        };
        // The claim may have waited for long: in the answer that told of it, for a slot, for what it needs.
        match host.signal() {
            Signal::Cancel(_) => return (StepEnd::Cancelled, false),
            Signal::Pause => return (StepEnd::Released, false),
            Signal::GoOn if host.stop().is_some() || self.has_lapsed() => return (StepEnd::Released, false),
            Signal::GoOn => {}
        }
        let task_id = step.task_id;
        // What runs elsewhere takes no host down with it.
        let _note = self.journal.as_ref().filter(|_| code.lane() == Lane::Process).map(|journal| journal.note(task_id));
        ledger::begun(&step);
        let _ = fault::point_of(Point::StepBegun, step.key.as_str()).await;
        let end = match AssertUnwindSafe(executor.run(Arc::new(step), host)).catch_unwind().await {
            Ok(end) => end,
            Err(_) => {
                tracing::error!(task.id = %task_id, "an executor panicked");
                StepEnd::Failed(StepFailure::retryable(codes::HOST_BUG.name, "the executor failed; the host's log says more"))
            }
        };
        (end, true)
    }

    /// What the step before left, fetched if it was too large to be kept with the task.
    async fn carried(&self, claimed: &mut Claimed, orders: &Orders) -> Result<Option<Json>, StepEnd> {
        match claimed.carried.take() {
            None => Ok(None),
            Some(Output::Inline(json)) => Ok(Some(json)),
            Some(Output::Ref(url)) => {
                let missing = |why: String| StepEnd::Failed(StepFailure::retryable(codes::HOST_TROUBLE.name, format!("{url}: {why}")));
                let digest: Digest = url.strip_prefix(ARTIFACT_URL).unwrap_or(&url).parse().map_err(|error| missing(format!("{error}")))?;
                let bytes = patiently(orders, || artifacts::get(&*self.stores.blobs, &digest)).await.ok_or(StepEnd::Released)?;
                let bytes = bytes.map_err(|error| missing(error.to_string()))?;
                let bytes = bytes.ok_or_else(|| missing("not in the artifact store".to_owned()))?;
                String::from_utf8(bytes).map(|text| Some(Json::trusted(text))).map_err(|error| missing(error.to_string()))
            }
        }
    }

    async fn settled(&self, end: StepEnd, host: &EngineStepHost, loaded: &Loaded, claimed: &Claimed) -> SettledEnd {
        let end = match end {
            StepEnd::Finished { output, last } => match self.keep(output, claimed, &host.orders).await {
                Ok(output) => {
                    let children = host.take_plan().await.into();
                    return SettledEnd::Finished { output, children, round: round_end(&loaded.definition.spec, claimed, last) };
                }
                Err(end) => end,
            },
            // What it split off is dropped with the rest of what it did, but for what it carries over.
            StepEnd::Paused { carried } if host.orders.was_paused() => match self.keep(carried, claimed, &host.orders).await {
                Ok(carried) => return SettledEnd::Suspended { carried },
                Err(end) => end,
            },
            StepEnd::Paused { .. } => {
                StepEnd::Failed(StepFailure::fatal(codes::NOT_PAUSED.name, "the step returned `paused`, and nobody had asked it to pause"))
            }
            StepEnd::Cancelled if !host.orders.is_cancelled() && host.orders.stop().is_some() => StepEnd::Released,
            StepEnd::Cancelled if !host.orders.is_cancelled() => {
                StepEnd::Failed(StepFailure::fatal(codes::GUEST_CANCELLED_ITSELF.name, "the step returned `cancelled`, and nobody had cancelled it"))
            }
            end @ (StepEnd::Failed(_) | StepEnd::Cancelled | StepEnd::Released) => end,
        };
        match end {
            StepEnd::Failed(failure) => {
                let delay = match failure.class {
                    FailureClass::Fatal => Duration::ZERO,
                    FailureClass::Retryable => loaded.definition.spec.retry.delay(claimed.attempt, failure.after, rand::random()),
                };
                SettledEnd::Failed { failure, delay }
            }
            StepEnd::Cancelled => SettledEnd::Cancelled,
            StepEnd::Finished { .. } | StepEnd::Paused { .. } | StepEnd::Released => SettledEnd::Released,
        }
    }

    /// Puts a large output into the artifact store.
    async fn keep(&self, output: Json, claimed: &Claimed, orders: &Orders) -> Result<Output, StepEnd> {
        if output.as_str().len() <= INLINE_OUTPUT_BYTES_MAX {
            return Ok(Output::Inline(output));
        }
        let origin = Origin { trace_id: claimed.trace_id, task_id: claimed.task_id, fence: claimed.fence };
        match patiently(orders, || artifacts::put(&self.stores, origin, output.as_str())).await {
            Some(Ok(Some(digest))) => Ok(Output::Ref(artifacts::url_of(&digest))),
            // The trace is gone, and the claim with it.
            Some(Ok(None)) => Err(StepEnd::Released),
            Some(Err(error)) => Err(StepEnd::Failed(StepFailure::retryable(codes::HOST_TROUBLE.name, format!("the output could not be stored: {error}")))),
            None => Err(StepEnd::Released),
        }
    }

    /// Reports are written at a steady pace, however many there are.
    pub(crate) async fn write_reports(self: Arc<Self>) {
        let mut pace = tokio::time::interval(self.config.observe_every.max(Duration::from_millis(10)));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                _ = pace.tick() => {}
            }
            // While nothing can be written, reports gather where they are bounded.
            if !self.is_healthy() {
                continue;
            }
            let observers = std::mem::take(&mut *self.observers.lock());
            for observer in observers {
                observer.collect(|observe| self.commits.tell_of(observer.trace_id, Command::Observe(observe)));
            }
        }
    }

    /// Has a step's reports written at the next pace.
    pub(crate) fn list_observer(&self, observer: Arc<Observer>) {
        self.observers.lock().push(observer);
    }
}

/// Asks a store until it answers: while it is away, no result is lost for that and no retry is used up. None: the step was stopped first.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(orders: &Orders, ask: impl Fn() -> F) -> Option<Result<T, StoreError>> {
    loop {
        match ask().await {
            Err(error) if error.is_outage() => {
                tracing::warn!(error = %chain(&error), "a step waits for the store");
                tokio::select! {
                    biased;
                    _ = orders.until(Orders::stop) => return None,
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                }
            }
            answer => return Some(answer),
        }
    }
}

/// What follows a round, for the root of a LOOP; for everything else nothing does.
fn round_end(spec: &DefinitionSpec, claimed: &Claimed, last: bool) -> Option<RoundEnd> {
    let config = spec.loop_config.filter(|_| spec.schedule_type == ScheduleType::Loop && claimed.parent_id.is_none())?;
    let more = !last && config.max_rounds.is_none_or(|most| claimed.round_index + 1 < most);
    Some(if more { RoundEnd::Next { delay: Duration::from_secs(config.interval_sec.into()) } } else { RoundEnd::Last })
}

fn step_of(claimed: &mut Claimed, loaded: &Loaded, carried: Option<Json>, may_split: bool, now: Timestamp) -> Step {
    let timeout = Duration::from_secs(claimed.timeout_sec.into());
    Step {
        task_id: claimed.task_id,
        trace_id: claimed.trace_id,
        key: claimed.key.clone(),
        definition: loaded.definition.clone(),
        actor_type: claimed.actor_type,
        leg: claimed.leg,
        params: std::mem::replace(&mut claimed.params, Json::null()),
        upstream: std::mem::take(&mut claimed.upstream),
        summary: claimed.summary,
        carried,
        attempt: claimed.attempt,
        retries_left: (claimed.max_retries + 1).saturating_sub(claimed.attempt),
        round_index: claimed.round_index,
        layer: claimed.layer,
        depth: claimed.depth,
        may_split,
        fence: claimed.fence,
        timeout,
        deadline: now.plus(timeout),
        session: None,
    }
}
