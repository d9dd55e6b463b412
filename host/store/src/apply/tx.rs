//! What a back end must be able to do inside one open transaction: statements over many rows at once, and no rules.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tower_domain::aggregation::ChildCounts;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::{Control, ControlEvent, ScheduleOrder};
use tower_domain::definition::AggregationPolicy;
use tower_domain::event::TaskEvent;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::lifecycle::{Stage, TaskState};
use tower_domain::limit::{Gate, GateState, Gates, Limits};
use tower_domain::name::{Key, Name};
use tower_domain::schedule::Schedule;
use tower_domain::step::Summary;
use tower_domain::task::{ActorType, Attempt, Leg, Output, TaskError, TaskResult};
use tower_domain::trace::{Counts, TriggerType};

use crate::StoreError;
use crate::fault::Point;

/// The part of a task's row that rules look at or change.
#[derive(Debug, Clone)]
pub(crate) struct TaskRow {
    pub(crate) id: TaskId,
    pub(crate) trace_id: TraceId,
    pub(crate) parent_id: Option<TaskId>,
    pub(crate) key: Key,
    pub(crate) actor_type: ActorType,
    pub(crate) priority: u8,
    pub(crate) aggregation: AggregationPolicy,
    pub(crate) state: TaskState,
    /// Where it waits to be claimed.
    pub(crate) lane: Lane,
    /// What it passes before it can be claimed.
    pub(crate) gates: Gates,
    /// Which of them it waits at while it is queued; none: it has passed them all, or is not queued.
    pub(crate) parked: Option<u8>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) progress: u8,
    pub(crate) progress_message: String,
}

impl TaskRow {
    /// Whether it has passed its gates and not left them.
    pub(crate) fn has_passed(&self) -> bool {
        !self.gates.is_empty() && self.parked.is_none() && matches!(self.state.stage, Stage::Queued | Stage::Claimed)
    }
}

/// What is written beside a [`TaskRow`] when it changes; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskWrites {
    pub(crate) output: Option<Output>,
    pub(crate) carried: Option<Output>,
    pub(crate) error: Option<TaskError>,
    /// The error of an earlier attempt no longer says how the task stands.
    pub(crate) clear_error: bool,
    /// It goes on in another round than it was in.
    pub(crate) next_round: bool,
}

/// A task to insert.
#[derive(Debug, Clone)]
pub(crate) struct NewTask {
    pub(crate) row: TaskRow,
    pub(crate) job_id: Name,
    pub(crate) definition_version: u32,
    pub(crate) timeout_sec: u32,
    pub(crate) layer: u32,
    pub(crate) depth: u32,
    pub(crate) is_leaf_agent: bool,
    pub(crate) input_params: Json,
    /// Keys that it named.
    pub(crate) depends_on: Vec<Key>,
    /// Ids of all that it depends on and that have not ended.
    pub(crate) open_deps: Vec<TaskId>,
    /// Ids of all that it depends on and that have ended already (they only matter to readers).
    pub(crate) ended_deps: Vec<TaskId>,
    pub(crate) writes: TaskWrites,
    pub(crate) created_at: Timestamp,
}

/// A round of a LOOP that has ended.
#[derive(Debug, Clone)]
pub(crate) struct RoundRow {
    pub(crate) task_id: TaskId,
    pub(crate) round: u32,
    /// Of the tasks that it split off.
    pub(crate) children: ChildCounts,
    pub(crate) output: Option<Output>,
    pub(crate) finished_at: Timestamp,
}

/// The part of a trace's row that rules look at or change.
#[derive(Debug, Clone)]
pub(crate) struct TraceRow {
    pub(crate) trace_id: TraceId,
    pub(crate) root_task_id: TaskId,
    pub(crate) counts: Counts,
    /// `seq` of the latest event.
    pub(crate) last_seq: u64,
    /// Virtual finish time of its latest queued task, for fair shares.
    pub(crate) rank: u64,
    pub(crate) status: tower_domain::task::Status,
    pub(crate) cancelling: bool,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    /// The session that it is part of.
    pub(crate) session_id: Option<SessionId>,
    /// Whether a schedule began it, which may wait for its end.
    pub(crate) is_scheduled: bool,
    /// When it was changed last, where hosts with clocks of their own take turns.
    pub(crate) changed_at: Option<Timestamp>,
}

/// A trace to insert.
#[derive(Debug, Clone)]
pub(crate) struct NewTraceRow {
    pub(crate) row: TraceRow,
    pub(crate) definition_id: Name,
    pub(crate) definition_version: u32,
    pub(crate) user_id: String,
    pub(crate) trigger_type: TriggerType,
    pub(crate) triggered_by: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) rerun_of: Option<TraceId>,
    pub(crate) cron_trigger_time: Option<Timestamp>,
}

/// A row of the queue: a task that can be claimed, waits for its time, or is claimed.
#[derive(Debug, Clone)]
pub(crate) struct QueueRow {
    pub(crate) task_id: TaskId,
    pub(crate) priority: u8,
    /// Order within a priority: smallest first.
    pub(crate) rank: u64,
    pub(crate) place: QueuePlace,
}

/// Where in the queue.
#[derive(Debug, Clone)]
pub(crate) enum QueuePlace {
    /// Not before this.
    Due(Timestamp),
    /// Can be claimed, by hosts with room in this lane.
    Ready(Lane),
    /// Is claimed.
    Claimed { owner: String, until: Timestamp },
    /// Waits at a gate.
    Parked(Gate),
}

impl QueuePlace {
    /// Where it can be claimed, if it can.
    pub(crate) fn lane(&self) -> Option<&Lane> {
        match self {
            Self::Ready(lane) => Some(lane),
            _ => None,
        }
    }
}

/// A gate that somebody has passed or waits at.
#[derive(Debug, Clone)]
pub(crate) struct GateRow {
    pub(crate) gate: Gate,
    pub(crate) state: GateState,
}

/// A task that waits at a gate.
#[derive(Debug, Clone)]
pub(crate) struct ParkedTask {
    pub(crate) gate: Gate,
    pub(crate) task_id: TaskId,
    pub(crate) priority: u8,
    pub(crate) rank: u64,
}

/// A key that is known.
#[derive(Debug, Clone)]
pub(crate) struct KnownKey {
    pub(crate) key: String,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) trace_id: TraceId,
    pub(crate) root_task_id: TaskId,
}

/// What a claimed step needs that rules do not look at.
#[derive(Debug, Clone)]
pub(crate) struct StepInput {
    pub(crate) task_id: TaskId,
    pub(crate) definition_id: Name,
    pub(crate) definition_version: u32,
    pub(crate) timeout_sec: u32,
    pub(crate) layer: u32,
    pub(crate) depth: u32,
    pub(crate) params: Json,
    pub(crate) carried: Option<Output>,
    /// Results of the dependencies that it named, in the order of `depends_on`; empty for a GROUP_AGG that named none.
    pub(crate) upstream: Vec<TaskResult>,
    /// In [`Leg::Aggregate`](tower_domain::task::Leg::Aggregate): of its children. For an aggregator in its first leg: of its
    /// dependencies.
    pub(crate) summary: Option<Summary>,
}

impl StepInput {
    /// Of a task that is about to be inserted and can be claimed at once; none where it is handed results of others as well, or cannot.
    pub(crate) fn of_new(new: &NewTask) -> Option<Self> {
        let is_alone = new.depends_on.is_empty() && new.row.state.leg == Leg::Run && !new.row.actor_type.is_aggregator();
        (is_alone && new.row.state.stage == Stage::Queued).then(|| Self {
            task_id: new.row.id,
            definition_id: new.job_id.clone(),
            definition_version: new.definition_version,
            timeout_sec: new.timeout_sec,
            layer: new.layer,
            depth: new.depth,
            params: new.input_params.clone(),
            carried: new.writes.carried.clone(),
            upstream: Vec::new(),
            summary: None,
        })
    }
}

/// A task of an ended trace, as a retry looks at it.
#[derive(Debug, Clone)]
pub(crate) struct OldTask {
    pub(crate) task: NewTask,
    /// Everything that it depended on.
    pub(crate) depends_on_ids: Vec<TaskId>,
    pub(crate) output: Option<Output>,
    pub(crate) carried: Option<Output>,
}

/// One open transaction. Every method takes sets, so that a back end which is far away needs a fixed number of statements for each, and one that is
/// in the process a statement for each row. Given none it does nothing.
#[async_trait]
pub(crate) trait Tx: Send {
    /// Takes the locks that the batch needs, where others may write meanwhile: those of traces, of these tasks' traces, and of traces that
    /// schedules began last. Comes before anything is read, and answers the instant of the batch, where that is the database's.
    async fn lock(&mut self, tasks: &[TaskId], traces: &[TraceId], schedules: &[Name]) -> Result<Option<Timestamp>, StoreError>;
    /// Rows of tasks, those that exist, in any order.
    async fn tasks(&mut self, ids: &[TaskId]) -> Result<Vec<TaskRow>, StoreError>;
    /// Rows of traces, likewise.
    async fn traces(&mut self, ids: &[TraceId]) -> Result<Vec<TraceRow>, StoreError>;
    /// Pairs (dependency, dependent) for all that wait for one of `ids`.
    async fn dependents(&mut self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError>;
    /// Children of a task in its present round: id, key, part, and whether and how they ended.
    async fn children(&mut self, parent: TaskId) -> Result<Vec<TaskRow>, StoreError>;
    /// Tasks that have not ended: of the whole trace, or of a task and everything below it; parents before their children.
    async fn open_tasks(&mut self, trace: TraceId, subtree: Option<TaskId>) -> Result<Vec<TaskRow>, StoreError>;
    /// Tasks of a trace that run or wait for children, parents before their children.
    async fn busy_tasks(&mut self, trace: TraceId) -> Result<Vec<TaskRow>, StoreError>;
    /// Tasks of a trace that have not ended and neither run nor wait for children: so many at the most, in any order.
    async fn idle_tasks(&mut self, trace: TraceId, limit: u32) -> Result<Vec<TaskRow>, StoreError>;
    /// Traces that are being cancelled and have such tasks.
    async fn unswept(&mut self, limit: u32) -> Result<Vec<TraceId>, StoreError>;
    /// Children of these tasks of an ended trace in their last round, in order, with all that is needed to run them again; the root for `None`.
    async fn old_tasks(&mut self, trace: TraceId, parents: Option<&[TaskId]>) -> Result<Vec<OldTask>, StoreError>;

    /// Tasks of an ended trace that did not succeed, one more that is taken for such, and everything above them.
    async fn spoilt_tasks(&mut self, trace: TraceId, and: Option<TaskId>) -> Result<Vec<TaskId>, StoreError>;

    async fn insert_traces(&mut self, rows: &[NewTraceRow]) -> Result<(), StoreError>;
    async fn update_traces(&mut self, rows: &[TraceRow]) -> Result<(), StoreError>;
    /// Inserts tasks and their dependencies.
    async fn insert_tasks(&mut self, rows: &[NewTask]) -> Result<(), StoreError>;
    async fn update_tasks(&mut self, rows: &[(TaskRow, TaskWrites)], now: Timestamp) -> Result<(), StoreError>;

    /// Inserts or replaces.
    async fn put_queue(&mut self, rows: &[QueueRow]) -> Result<(), StoreError>;
    async fn delete_queue(&mut self, ids: &[TaskId]) -> Result<(), StoreError>;
    /// The first `limit` tasks that can be claimed: by priority (10 first), then rank, then id; with their rank.
    async fn ready(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError>;
    /// The first `limit` by rank and then id, whatever their priority; with their rank.
    async fn fair(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError>;
    /// The first tasks of a lane that can be claimed, with their rank: the most urgent first, then by rank.
    async fn ready_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError>;
    /// The first tasks of a lane that can be claimed, by rank alone.
    async fn fair_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError>;
    /// Up to `limit` waiting tasks that are due.
    async fn due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError>;
    /// When the next waiting task is due, or the next gate opens.
    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError>;
    /// Up to `limit` claimed tasks of a host.
    async fn claimed_by(&mut self, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError>;
    /// Up to `limit` claimed tasks whose lease ended before an instant, each with the host that held it.
    async fn overdue(&mut self, now: Timestamp, limit: u32) -> Result<Vec<(TaskId, String)>, StoreError>;
    /// Moves the leases that a host holds on these tasks.
    async fn renew(&mut self, host: &str, ids: &[TaskId], until: Timestamp) -> Result<(), StoreError>;
    /// Gates, those that exist.
    async fn gates(&mut self, gates: &[Gate]) -> Result<Vec<GateRow>, StoreError>;
    /// Inserts or replaces.
    async fn put_gates(&mut self, rows: &[GateRow]) -> Result<(), StoreError>;
    async fn delete_gates(&mut self, gates: &[Gate]) -> Result<(), StoreError>;
    /// Up to `limit` gates whose time to open has come.
    async fn opening(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Gate>, StoreError>;
    /// Tasks that wait at these gates, of each gate and priority the first `each` by rank and then id.
    async fn parked(&mut self, gates: &[Gate], each: u32) -> Result<Vec<ParkedTask>, StoreError>;
    /// What the current versions of definitions say about their tasks, those that exist.
    async fn limits(&mut self, definitions: &[Name]) -> Result<Vec<(Name, Limits)>, StoreError>;
    /// Those of these tasks that a host holds, with what is wanted of them and, of those that are cancelled, why.
    async fn held(&mut self, host: &str, ids: &[TaskId]) -> Result<Vec<(TaskId, Control, Option<String>)>, StoreError>;
    /// What the steps of these (claimed) tasks need.
    async fn step_inputs(&mut self, rows: &[TaskRow]) -> Result<Vec<StepInput>, StoreError>;

    async fn insert_events(&mut self, events: &[TaskEvent]) -> Result<(), StoreError>;
    /// Which of these outside event ids are known, with their task, type and payload.
    async fn known_events(&mut self, ids: &[String]) -> Result<Vec<TaskEvent>, StoreError>;
    /// Ended attempts.
    async fn insert_attempts(&mut self, rows: &[(TaskId, Attempt)]) -> Result<(), StoreError>;
    async fn insert_control_event(&mut self, order: &ControlEvent) -> Result<(), StoreError>;
    /// Rounds that have ended.
    async fn insert_rounds(&mut self, rows: &[RoundRow]) -> Result<(), StoreError>;
    /// Copies the rounds of a task to another.
    async fn copy_rounds(&mut self, from: TaskId, to: TaskId) -> Result<(), StoreError>;
    /// Which of these keys are known and not older than `not_before`.
    async fn known_keys(&mut self, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError>;
    /// Inserts or replaces.
    async fn insert_key(&mut self, key: &KnownKey, now: Timestamp) -> Result<(), StoreError>;
    /// Deletes up to `limit` keys that are older than `not_before`.
    async fn delete_keys(&mut self, not_before: Timestamp, limit: u32) -> Result<(), StoreError>;

    /// Schedules of definitions, those that exist.
    async fn schedules(&mut self, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError>;
    /// Replaces them.
    async fn put_schedules(&mut self, rows: &[Schedule]) -> Result<(), StoreError>;
    /// Which instants of which definitions fired.
    async fn insert_fires(&mut self, rows: &[(Name, Timestamp, TraceId)]) -> Result<(), StoreError>;
    /// Has schedules go on that waited for one of these traces.
    async fn release_schedules(&mut self, ended: &[TraceId], now: Timestamp) -> Result<(), StoreError>;
    async fn insert_schedule_order(&mut self, order: &ScheduleOrder) -> Result<(), StoreError>;

    /// A trace of a session begins, and an idle one is active again. False: the session is closed, or there is none.
    async fn use_session(&mut self, id: SessionId, now: Timestamp) -> Result<bool, StoreError>;
    /// What the code of a session calls it from now on.
    async fn set_sdk_session(&mut self, id: SessionId, sdk: &str) -> Result<(), StoreError>;

    /// A place between two statements, where tests have the process die: whatever came before it is with the database. With
    /// [`Guard::Atomic`](crate::fault::Guard::Atomic) off, the transaction ends here and another begins.
    async fn between(&mut self, point: Point) -> Result<(), StoreError>;
}
