//! A host's side of the store: what a test needs to move tasks with few words.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tower_domain::clock::{Clock, ManualClock, Timestamp};
use tower_domain::code_ref::Lane;
use tower_domain::control::{ControlAction, ControlEvent};
use tower_domain::definition::{AggregationPolicy, Definition};
use tower_domain::event::{EventType, TaskEvent};
use tower_domain::id::{IdSource, MonotonicIds, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::limit::Gates;
use tower_domain::name::{Key, Name};
use tower_domain::schedule::{NightWindow, Window};
use tower_domain::split::PlannedChild;
use tower_domain::step::StepFailure;
use tower_domain::task::{ActorType, Output, RunOn, Status, Task};
use tower_domain::trace::{Trace, TriggerType};
use tower_store::Stores;
use tower_store::invariants::{self, Inspect};
use tower_store::work::{Answer, Batch, Claim, Claimed, Command, Committed, IdMaker, NewTrace, Rerun, RoundEnd, Settle, SettledEnd};

use crate::backends::Backend;

/// The host that claims unless another is named.
pub(crate) const HOST: &str = "host-1";

/// How long its claims hold.
pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) stores: Stores,
    pub(crate) inspect: Arc<dyn Inspect>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ids: Arc<MonotonicIds<Arc<ManualClock>>>,
    pub(crate) trace_tasks_max: u64,
    pub(crate) cancel_max: u32,
    pub(crate) night: NightWindow,
    pub(crate) user_max_concurrent: Option<u32>,
    _keep: Box<dyn Any + Send + Sync>,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn json(text: &str) -> Json {
    Json::parse(text, 1 << 20).unwrap()
}

pub(crate) fn inline(text: &str) -> Output {
    Output::Inline(json(text))
}

/// An ordinary agent's definition under a name.
pub(crate) fn definition(id: &str) -> Arc<Definition> {
    let spec = json(r#"{"actor_type":"AGENT","code_ref":"wasm://probe","role":"tester"}"#).read().unwrap();
    let at = Timestamp::from_micros(0);
    Arc::new(Definition { id: name(id), version: 1, spec, created_at: at, updated_at: at })
}

/// The lane of a queue of outside workers; [`World::wish`] asks for `gpu` as well.
pub(crate) fn queue(queue: &str) -> Lane {
    Lane::Queue(name(queue))
}

impl World {
    pub(crate) fn on(backend: Backend) -> Self {
        let clock = Arc::new(ManualClock::at_micros(1_700_000_000_000_000));
        let ids = Arc::new(MonotonicIds::new(clock.clone()));
        Self {
            stores: backend.stores,
            inspect: backend.inspect,
            clock,
            ids,
            trace_tasks_max: 1_000_000,
            cancel_max: 1_000,
            night: NightWindow::default(),
            user_max_concurrent: None,
            _keep: backend.keep,
        }
    }

    /// The id of no task yet.
    pub(crate) fn task_id(&self) -> TaskId {
        self.ids.task()
    }

    /// The id of no trace yet.
    pub(crate) fn trace_id(&self) -> TraceId {
        self.ids.trace()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Commits a batch a millisecond later, and asks about the invariants.
    pub(crate) async fn batch(&self, commands: Vec<Command>, claim: Option<Claim>) -> Committed {
        let committed = self.try_batch(commands, claim).await;
        self.is_sound().await;
        committed
    }

    /// Without asking.
    pub(crate) async fn try_batch(&self, commands: Vec<Command>, claim: Option<Claim>) -> Committed {
        self.clock.advance(Duration::from_millis(1));
        let batch = Batch {
            now: self.now(),
            host: HOST.to_owned(),
            trace_tasks_max: self.trace_tasks_max,
            cancel_max: self.cancel_max,
            night: self.night,
            user_max_concurrent: self.user_max_concurrent,
            others: true,
            commands,
            claim,
        };
        self.stores.work.commit(batch).await.unwrap()
    }

    pub(crate) async fn is_sound(&self) {
        let violations = invariants::check(&*self.inspect).await.unwrap();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    pub(crate) async fn commit(&self, commands: Vec<Command>) -> Committed {
        self.batch(commands, None).await
    }

    /// The answer to a single command.
    pub(crate) async fn answer(&self, command: Command) -> Answer {
        let mut committed = self.commit(vec![command]).await;
        assert_eq!(committed.answers.len(), 1);
        committed.answers.remove(0)
    }

    pub(crate) fn wish(&self, limit: u32) -> Claim {
        Claim { host: HOST.to_owned(), limit, elsewhere: vec![(queue("gpu"), limit)], lease: LEASE }
    }

    pub(crate) async fn claim(&self, limit: u32) -> Vec<Claimed> {
        self.batch(Vec::new(), Some(self.wish(limit))).await.claimed
    }

    /// Claims exactly one.
    pub(crate) async fn claim_one(&self) -> Claimed {
        let mut claimed = self.claim(10).await;
        assert_eq!(claimed.len(), 1, "{claimed:#?}");
        claimed.remove(0)
    }

    pub(crate) fn new_trace(&self) -> NewTrace {
        NewTrace {
            trace_id: self.ids.trace(),
            root_task_id: self.ids.task(),
            definition_id: name("root-def"),
            definition_version: 1,
            user_id: "ada".to_owned(),
            trigger_type: TriggerType::Api,
            triggered_by: "test".to_owned(),
            idempotency: None,
            params: json(r#"{"n":1}"#),
            labels: BTreeMap::new(),
            actor_type: ActorType::Agent,
            priority: 5,
            timeout_sec: 300,
            max_retries: 3,
            aggregation: AggregationPolicy::default(),
            is_leaf_agent: false,
            run_after: None,
            window: Window::Immediate,
            lane: Lane::Process,
            gates: Gates::default(),
            rerun: None,
            cron_trigger_time: None,
            session_id: None,
        }
    }

    pub(crate) async fn submit(&self) -> (TraceId, TaskId) {
        self.submit_as(self.new_trace()).await
    }

    pub(crate) async fn submit_as(&self, new: NewTrace) -> (TraceId, TaskId) {
        let (trace_id, root_task_id) = (new.trace_id, new.root_task_id);
        assert_eq!(self.answer(Command::Submit(Box::new(new))).await, Answer::Submitted { trace_id, root_task_id });
        (trace_id, root_task_id)
    }

    /// A child of the claimed task.
    pub(crate) fn child(&self, of: &Claimed, text: &str) -> PlannedChild {
        PlannedChild {
            id: self.ids.task(),
            key: key(text),
            definition: definition("child-def"),
            params: json(&format!(r#"{{"key":"{text}"}}"#)),
            depends_on: Vec::new(),
            on_all_siblings: false,
            run_on: RunOn::Success,
            actor_type: ActorType::Agent,
            priority: 5,
            timeout_sec: 60,
            max_retries: 1,
            layer: of.layer + 1,
            depth: of.depth + 1,
            is_leaf_agent: false,
        }
    }

    /// A child that waits for siblings.
    pub(crate) fn child_after(&self, of: &Claimed, text: &str, depends_on: &[&str]) -> PlannedChild {
        PlannedChild { depends_on: depends_on.iter().map(|text| key(text)).collect(), ..self.child(of, text) }
    }

    pub(crate) fn settle(&self, claimed: &Claimed, end: SettledEnd) -> Command {
        Command::Settle(Box::new(Settle { task_id: claimed.task_id, fence: claimed.fence, started_at: self.now(), end, sdk_session_id: None }))
    }

    pub(crate) fn good(&self, claimed: &Claimed, output: &str) -> Command {
        self.settle(claimed, SettledEnd::Finished { output: inline(output), children: [].into(), round: None })
    }

    pub(crate) async fn finish(&self, claimed: &Claimed, output: &str) -> Committed {
        self.done(self.good(claimed, output)).await
    }

    pub(crate) async fn split(&self, claimed: &Claimed, children: Vec<PlannedChild>) -> Committed {
        self.done(self.settle(claimed, SettledEnd::Finished { output: inline(r#""carried""#), children: children.into(), round: None })).await
    }

    pub(crate) async fn fail(&self, claimed: &Claimed, failure: StepFailure, delay: Duration) -> Committed {
        self.done(self.settle(claimed, SettledEnd::Failed { failure, delay })).await
    }

    pub(crate) async fn fail_for_good(&self, claimed: &Claimed) -> Committed {
        self.fail(claimed, StepFailure::fatal("BAD", "it is bad"), Duration::ZERO).await
    }

    async fn done(&self, command: Command) -> Committed {
        let committed = self.commit(vec![command]).await;
        assert_eq!(committed.answers, [Answer::Done]);
        committed
    }

    pub(crate) fn order(&self, action: ControlAction, trace_id: TraceId, task_id: Option<TaskId>) -> ControlEvent {
        ControlEvent {
            id: self.ids.control_event(),
            trace_id,
            task_id,
            action,
            triggered_by: "bob".to_owned(),
            reason: "enough".to_owned(),
            created_at: self.now(),
        }
    }

    pub(crate) async fn cancel(&self, trace_id: TraceId, task_id: Option<TaskId>) -> Committed {
        self.commit(vec![Command::Control(self.order(ControlAction::Cancel, trace_id, task_id))]).await
    }

    pub(crate) async fn pause(&self, trace_id: TraceId, task_id: Option<TaskId>) -> Committed {
        self.commit(vec![Command::Control(self.order(ControlAction::Pause, trace_id, task_id))]).await
    }

    pub(crate) async fn resume(&self, trace_id: TraceId, task_id: Option<TaskId>) -> Committed {
        self.commit(vec![Command::Control(self.order(ControlAction::Run, trace_id, task_id))]).await
    }

    /// The good end of a round of a LOOP.
    pub(crate) fn round(&self, claimed: &Claimed, output: &str, round: RoundEnd) -> Command {
        self.settle(claimed, SettledEnd::Finished { output: inline(output), children: [].into(), round: Some(round) })
    }

    /// A retry of an ended trace.
    pub(crate) fn retry_of(&self, trace_id: TraceId) -> NewTrace {
        let ids = self.ids.clone();
        let rerun = Rerun { of: trace_id, from: None, order: self.order(ControlAction::Retry, trace_id, None), ids: IdMaker(Arc::new(move || ids.task())) };
        NewTrace { trigger_type: TriggerType::Replay, rerun: Some(rerun), ..self.new_trace() }
    }

    /// Claims and finishes everything until nothing is left that can be claimed; each output is the task's key.
    pub(crate) async fn run_dry(&self) {
        loop {
            let claimed = self.claim(100).await;
            if claimed.is_empty() {
                return;
            }
            let commands = claimed.iter().map(|claimed| self.good(claimed, &format!("\"{}\"", claimed.key))).collect();
            for answer in self.commit(commands).await.answers {
                assert_eq!(answer, Answer::Done);
            }
        }
    }

    pub(crate) async fn trace(&self, id: TraceId) -> Trace {
        self.stores.read.trace(id).await.unwrap().unwrap()
    }

    pub(crate) async fn task(&self, id: TaskId) -> Task {
        self.stores.read.task(id).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, id: TaskId) -> Status {
        self.task(id).await.status
    }

    pub(crate) async fn events(&self, trace: TraceId) -> Vec<TaskEvent> {
        self.stores.read.events(trace, 0, 100_000).await.unwrap()
    }

    /// What happened to a task, in order.
    pub(crate) async fn history(&self, trace: TraceId, task: TaskId) -> Vec<EventType> {
        self.events(trace).await.into_iter().filter(|event| event.task_id == task).map(|event| event.event_type).collect()
    }
}
