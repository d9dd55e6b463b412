//! What moves tasks: batches of commands, applied in one transaction each.
//!
//! The engine gathers whatever came up while the last transaction was at the disk, and hands it over as one [`Batch`]. Commands
//! that do not apply (a stale fence, a finished trace) are answered one by one and do not disturb the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tower_domain::aggregation::ChildCounts;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::{ControlEvent, ScheduleOrder};
use tower_domain::definition::AggregationPolicy;
use tower_domain::event::{EventType, TaskEvent};
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::limit::Gates;
use tower_domain::name::{Key, Name};
use tower_domain::schedule::{NightWindow, Overlap, ScheduleState, Window};
use tower_domain::split::PlannedChild;
use tower_domain::step::{LogLine, Signal, StepFailure, Summary};
use tower_domain::task::{ActorType, Leg, Output, Status, TaskResult};
use tower_domain::trace::TriggerType;

use crate::StoreError;
use crate::news::News;

/// Moves tasks.
#[async_trait]
pub trait WorkStore: Send + Sync {
    /// Applies the commands in order, then claims, in one durable transaction.
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError>;

    /// Writes something that changes nothing, to see whether writing works.
    async fn check_writable(&self) -> Result<(), StoreError>;
}

/// What is to be done in one transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The instant that everything in it happens at.
    pub now: Timestamp,
    /// Who hands it over.
    pub host: String,
    /// Most tasks that a trace may hold.
    pub trace_tasks_max: u64,
    /// How many tasks that do not run the cancel of a trace ends in one transaction; the rest follows, and does not start.
    pub cancel_max: u32,
    /// The hours of NIGHTLY tasks.
    pub night: NightWindow,
    /// Most tasks of one user's traces that run at once.
    pub user_max_concurrent: Option<u32>,
    /// Whether there may be other hosts, who want to hear of it.
    pub others: bool,
    /// In order.
    pub commands: Vec<Command>,
    /// What to claim once they are applied.
    pub claim: Option<Claim>,
}

/// A wish for work.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who will run it.
    pub host: String,
    /// How many tasks of [`Lane::Process`] at the most.
    pub limit: u32,
    /// How many of other lanes, each at the most.
    pub elsewhere: Vec<(Lane, u32)>,
    /// How long the claims hold unless they are renewed.
    pub lease: Duration,
}

impl Claim {
    /// How many tasks at the most, of all lanes.
    pub(crate) fn most(&self) -> usize {
        self.elsewhere.iter().map(|(_, limit)| *limit as usize).sum::<usize>() + self.limit as usize
    }
}

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Command {
    /// Begin a trace.
    Submit(Box<NewTrace>),
    /// A schedule is due.
    Fire(Box<Fire>),
    /// Hold a schedule, have it go on, or end it.
    ChangeSchedule(Box<ChangeSchedule>),
    /// A claim has come to its end.
    Settle(Box<Settle>),
    /// End, hold or set going a trace or a subtree, as the order says.
    Control(ControlEvent),
    /// Go on to end what does not run of a trace that is being cancelled, see [`Committed::unswept`].
    Sweep(TraceId),
    /// Keep what a running step reports.
    Observe(Observe),
    /// Keep what an outside caller reports.
    PostEvent(OutsideEvent),
    /// Keep this host's claims, and say what is wanted of them.
    Renew {
        /// Whose.
        host: String,
        /// On which tasks; a claim that its host no longer knows of lapses.
        held: Vec<TaskId>,
        /// For how long; none: as long as they hold already.
        lease: Option<Duration>,
    },
    /// Take back claims whose host is gone.
    Expire(Expire),
    /// Delete callers' keys that are too old to count; so many at a time that it disturbs nobody.
    ForgetKeys {
        /// Keys older than this.
        not_before: Timestamp,
    },
}

/// A trace to begin.
#[derive(Debug, Clone)]
pub struct NewTrace {
    /// Its id.
    pub trace_id: TraceId,
    /// Its root's id.
    pub root_task_id: TaskId,
    /// What it runs.
    pub definition_id: Name,
    /// The version of it.
    pub definition_version: u32,
    /// Whose it is.
    pub user_id: String,
    /// What set it off.
    pub trigger_type: TriggerType,
    /// Who.
    pub triggered_by: String,
    /// Against doubles.
    pub idempotency: Option<Idempotency>,
    /// The root's params.
    pub params: Json,
    /// For filters.
    pub labels: BTreeMap<String, String>,
    /// The root's part.
    pub actor_type: ActorType,
    /// 1–10.
    pub priority: u8,
    /// Wall time of an attempt.
    pub timeout_sec: u32,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// What becomes of the root when it has split.
    pub aggregation: AggregationPolicy,
    /// Whether the root may not split.
    pub is_leaf_agent: bool,
    /// Not before.
    pub run_after: Option<Timestamp>,
    /// At what hours the root may run.
    pub window: Window,
    /// Where the root waits to be claimed.
    pub lane: Lane,
    /// What the root passes before it can be claimed.
    pub gates: Gates,
    /// Take over what succeeded in that trace, and run the rest.
    pub rerun: Option<Rerun>,
    /// The instant of its schedule that it is begun for.
    pub cron_trigger_time: Option<Timestamp>,
    /// The session that it is part of.
    pub session_id: Option<SessionId>,
}

/// What was decided about a schedule that is due.
#[derive(Debug, Clone)]
pub struct Fire {
    /// Whose schedule.
    pub definition_id: Name,
    /// Of the row that this was decided on.
    pub revision: u64,
    /// What becomes of them while the trace before still runs.
    pub overlap: Overlap,
    /// What is to begin, each with its instant, in order.
    pub traces: Vec<(Timestamp, NewTrace)>,
    /// Instants that were missed.
    pub missed: u64,
    /// Instants that are left out.
    pub skipped: u64,
    /// The next instant; none: there is none any more.
    pub next_at: Option<Timestamp>,
    /// To end the trace before, if that is to be.
    pub cancel: Option<ControlEvent>,
}

/// What is ordered about a schedule.
#[derive(Debug, Clone)]
pub struct ChangeSchedule {
    /// The order: PAUSE, RUN or CANCEL.
    pub order: ScheduleOrder,
    /// Of the row that was read.
    pub revision: u64,
    /// Where it stands then.
    pub state: ScheduleState,
    /// The next instant, of one that fires.
    pub next_at: Option<Timestamp>,
}

/// A trace to take results over from.
#[derive(Debug, Clone)]
pub struct Rerun {
    /// The trace; it must have ended.
    pub of: TraceId,
    /// A task that runs again from its beginning, whatever it came to.
    pub from: Option<RerunFrom>,
    /// The order, kept with the old trace.
    pub order: ControlEvent,
    /// Ids for the tasks that are taken over or run again, in rising order; more than enough of them are made by the caller through
    /// this function.
    pub ids: IdMaker,
}

/// Where a rerun begins.
#[derive(Debug, Clone)]
pub struct RerunFrom {
    /// A task of the old trace.
    pub task_id: TaskId,
    /// What it works on this time; none: on the same.
    pub params: Option<Json>,
}

/// Makes ids inside a transaction.
#[derive(Clone)]
pub struct IdMaker(pub std::sync::Arc<dyn Fn() -> TaskId + Send + Sync>);

impl std::fmt::Debug for IdMaker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdMaker")
    }
}

/// A caller's key against doubles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The key.
    pub key: String,
    /// SHA-256 of what was asked under it.
    pub fingerprint: [u8; 32],
    /// Keys older than this are forgotten.
    pub not_before: Timestamp,
}

/// The end of a claim.
#[derive(Debug, Clone)]
pub struct Settle {
    /// Whose.
    pub task_id: TaskId,
    /// Of the claim.
    pub fence: u64,
    /// When the code began to run.
    pub started_at: Timestamp,
    /// How it ended.
    pub end: SettledEnd,
    /// What the code calls the trace's session from now on, if the claim ended well and there is one.
    pub sdk_session_id: Option<String>,
}

/// How a claim ended.
#[derive(Debug, Clone)]
pub enum SettledEnd {
    /// Well.
    Finished {
        /// The task's output, or with children what is carried to their aggregation.
        output: Output,
        /// Children to bring about.
        children: Arc<[PlannedChild]>,
        /// What follows, if this ends the round of a LOOP; without children only.
        round: Option<RoundEnd>,
    },
    /// Early, because it was paused.
    Suspended {
        /// For the run that goes on from there.
        carried: Output,
    },
    /// Badly.
    Failed {
        /// How.
        failure: StepFailure,
        /// How long to wait if it is to be tried again.
        delay: Duration,
    },
    /// By order.
    Cancelled,
    /// Given back unharmed.
    Released,
}

/// What follows a round of a LOOP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundEnd {
    /// Nothing: it was the last.
    Last,
    /// The next one.
    Next {
        /// How long after.
        delay: Duration,
    },
}

/// What a running step reports.
#[derive(Debug, Clone)]
pub struct Observe {
    /// Which task.
    pub task_id: TaskId,
    /// Of its claim.
    pub fence: u64,
    /// The latest progress.
    pub progress: Option<(u8, String)>,
    /// Lines for its log, each with its instant.
    pub logs: Vec<(Timestamp, LogLine)>,
    /// Pieces of output, each with its instant.
    pub partials: Vec<(Timestamp, Json)>,
}

/// What an outside caller reports.
#[derive(Debug, Clone)]
pub struct OutsideEvent {
    /// The sender's id of it.
    pub event_id: String,
    /// Which trace; checked against the task's.
    pub trace_id: Option<TraceId>,
    /// Which task.
    pub task_id: TaskId,
    /// What happened.
    pub event_type: EventType,
    /// For PROGRESS.
    pub progress: Option<(u8, String)>,
    /// More about it.
    pub payload: Option<Json>,
}

/// Whose claims to take back.
#[derive(Debug, Clone)]
pub enum Expire {
    /// All of a host that starts anew under its old name.
    Host {
        /// The name.
        host: String,
        /// Tasks whose code was running when it died: each counts one crash.
        suspects: Vec<TaskId>,
    },
    /// All whose lease is over.
    Overdue,
}

/// What came of a batch.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The instant that it happened at: the batch's, or the database's where several hosts share it.
    pub now: Timestamp,
    /// One answer a command, in order.
    pub answers: Vec<Answer>,
    /// What was claimed.
    pub claimed: Vec<Claimed>,
    /// What happened, in order for each trace.
    pub events: Vec<TaskEvent>,
    /// Traces whose root has ended, with how.
    pub ended: Vec<(TraceId, Status)>,
    /// Running tasks that are to be told what is wanted of them now.
    pub to_tell: Vec<(TaskId, Signal)>,
    /// Tasks that [`Command::Renew`] named and that are no longer the host's.
    pub lost: Vec<TaskId>,
    /// Traces that are being cancelled and have more that does not run than one transaction ends: [`Command::Sweep`] goes on.
    pub unswept: Vec<TraceId>,
    /// What other hosts are told.
    pub news: Vec<News>,
    /// When the next waiting task is due, or the next gate opens.
    pub next_due: Option<Timestamp>,
    /// Whether more of [`Lane::Process`] could have been claimed.
    pub more_ready: bool,
    /// Whether more could have been claimed of the other lanes that were asked for.
    pub more_elsewhere: bool,
    /// How many statements it took: a measure of its cost that depends on no machine.
    pub statements: u64,
}

impl Committed {
    /// Of a batch that has not done anything yet.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self {
            now,
            answers: Vec::new(),
            claimed: Vec::new(),
            events: Vec::new(),
            ended: Vec::new(),
            to_tell: Vec::new(),
            lost: Vec::new(),
            unswept: Vec::new(),
            news: Vec::new(),
            next_due: None,
            more_ready: false,
            more_elsewhere: false,
            statements: 0,
        }
    }
}

/// The answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done; or there was nothing to do.
    Done,
    /// The claim was no longer the task's: nothing changed.
    LeaseLost,
    /// A trace was begun.
    Submitted {
        /// Its id.
        trace_id: TraceId,
        /// Its root's.
        root_task_id: TaskId,
    },
    /// The key was used before for the same: that trace is the answer.
    Replayed {
        /// Its id.
        trace_id: TraceId,
        /// Its root's.
        root_task_id: TaskId,
    },
    /// The key was used before for something else.
    KeyTaken {
        /// That trace.
        trace_id: TraceId,
    },
    /// The session takes no more traces, or there is none: nothing changed.
    SessionClosed,
    /// There is no such trace or task.
    NotFound,
    /// The trace has not ended: it cannot be retried.
    NotEnded,
    /// Everything in it succeeded: there is nothing to retry.
    NothingToRetry,
    /// The task that is to run again stands below one that begins anew and plans its children afresh, or in an earlier round.
    NotReached,
    /// The order was recorded.
    Ordered {
        /// Tasks that ended, were held, or were set going at once.
        done: u64,
        /// Running tasks that are told.
        running: u64,
    },
    /// It was what the order wants it to be; nothing changed.
    NothingToDo,
    /// A schedule that was due was dealt with.
    Fired {
        /// Whether it waits for a trace now.
        waits: bool,
    },
    /// The schedule has moved on since it was read: nothing changed.
    ScheduleMoved,
    /// The trace or subtree had ended before; nothing changed.
    AlreadyEnded,
    /// The trace or subtree was being cancelled already; nothing changed.
    AlreadyCancelling,
    /// The same event was accepted before.
    Duplicate,
    /// The event's id was used before for another event.
    EventIdTaken,
    /// The task has moved on; the event was not kept.
    Stale {
        /// Where it stands.
        status: Status,
    },
}

/// A claimed task, with all that its step needs.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The task.
    pub task_id: TaskId,
    /// Its trace.
    pub trace_id: TraceId,
    /// Its name among its siblings.
    pub key: Key,
    /// What it runs.
    pub definition_id: Name,
    /// The version of it.
    pub definition_version: u32,
    /// When its trace was made.
    pub trace_created_at: Timestamp,
    /// Tasks in its trace.
    pub trace_tasks: u64,
    /// The part that it plays.
    pub actor_type: ActorType,
    /// Which leg.
    pub leg: Leg,
    /// What it works on.
    pub params: Json,
    /// Results of the dependencies that it named.
    pub upstream: Vec<TaskResult>,
    /// What there is to fold.
    pub summary: Option<Summary>,
    /// What the step before left.
    pub carried: Option<Output>,
    /// From 1.
    pub attempt: u32,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// Wall time of an attempt.
    pub timeout_sec: u32,
    /// The round of a LOOP.
    pub round_index: u32,
    /// Agents above.
    pub layer: u32,
    /// Tasks above.
    pub depth: u32,
    /// Of its children.
    pub children: ChildCounts,
    /// Of this claim.
    pub fence: u64,
    /// How often a host died while it ran this.
    pub crashes: u32,
    /// Where it waited.
    pub lane: Lane,
    /// From the root's child down to its parent: who is asked when a subtree is cancelled.
    pub parent_id: Option<TaskId>,
    /// The session of its trace.
    pub session_id: Option<SessionId>,
}
