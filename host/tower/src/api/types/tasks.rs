//! Tasks in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::aggregation::ChildCounts;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::name::{Key, Name};
use tower_domain::task::{Attempt, Round, Task};
use utoipa::ToSchema;

use super::{ActorType, ErrorBody, Leg, Phase, RunOn, Status, output_forms};

/// A node of a trace's tree.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskBody {
    #[schema(value_type = String, format = "ulid")]
    pub(crate) id: TaskId,
    #[schema(value_type = String, format = "ulid")]
    pub(crate) trace_id: TraceId,
    /// The task that split it off; null: the root.
    #[schema(value_type = Option<String>, format = "ulid")]
    pub(crate) parent_id: Option<TaskId>,
    /// Its definition.
    #[schema(value_type = String)]
    pub(crate) job_id: Name,
    pub(crate) definition_version: u32,
    /// Its name among its siblings.
    #[schema(value_type = String)]
    pub(crate) key: Key,
    pub(crate) actor_type: ActorType,
    pub(crate) role: String,
    /// How many agents stand above it.
    pub(crate) layer: u32,
    /// How many tasks stand above it.
    pub(crate) depth: u32,
    /// It is an agent that may not split.
    pub(crate) is_leaf_agent: bool,
    /// `/<trace>/<task>/…/<task>/`, itself included.
    pub(crate) node_path: String,
    pub(crate) round_index: u32,
    pub(crate) status: Status,
    pub(crate) phase: Phase,
    /// A cancel is under way.
    pub(crate) cancelling: bool,
    /// It is held: what runs may go on, and nothing begins.
    pub(crate) paused: bool,
    /// Why it is not executing. Where one task was asked for, siblings that it waits for are named; in lists, only where that is all of them.
    pub(crate) waiting_on: Vec<WaitingOn>,
    /// Keys of siblings. An aggregator of all its siblings names none.
    #[schema(value_type = Vec<String>)]
    pub(crate) depends_on: Vec<Key>,
    pub(crate) run_on: RunOn,
    /// Dependencies that have not ended.
    pub(crate) open_deps: u32,
    /// Children split off; in a LOOP, in the present round. So for the two that follow.
    pub(crate) split_count: u32,
    /// Children that ended, in whatever way.
    pub(crate) completed_children: u32,
    /// Children that succeeded.
    pub(crate) succeeded_children: u32,
    pub(crate) priority: u8,
    /// Attempts begun.
    pub(crate) attempt: u32,
    /// Retries after the first attempt.
    pub(crate) max_retries: u32,
    pub(crate) timeout_sec: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) run_after: Option<Timestamp>,
    #[serde(default)]
    /// Where it waits for a place to run: `wasm`, `docker`, `http` or `worker/QUEUE`.
    #[schema(value_type = String)]
    pub(crate) lane: Lane,
    pub(crate) lease_owner: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) lease_expires_at: Option<Timestamp>,
    /// Raised by every claim.
    pub(crate) fence: u64,
    #[schema(value_type = Object)]
    pub(crate) input_params: Json,
    /// Its output, up to 64 KiB.
    #[schema(value_type = Option<Value>)]
    pub(crate) output: Option<Json>,
    /// Where its output is, if it is larger.
    pub(crate) output_ref: Option<String>,
    /// 0–100, as the step says.
    pub(crate) progress: u8,
    pub(crate) progress_message: String,
    pub(crate) error_code: Option<String>,
    pub(crate) error_msg: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: Timestamp,
    /// Attempts that ended, oldest first, the last 200; only where one task was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempts: Option<Vec<AttemptBody>>,
}

impl TaskBody {
    /// Says by their names which siblings are open; as many as [`NAMED_MAX`] stand for more.
    pub(crate) fn name_open(&mut self, open: Vec<Key>) {
        // Between its row and theirs it may have gone on: then its row says what can be said.
        if !open.is_empty() {
            let rest = if open.len() < NAMED_MAX { 0 } else { self.open_deps.saturating_sub(NAMED_MAX as u32) };
            self.waiting_on = open_dependencies(open.iter(), rest, self.updated_at);
        }
    }
}

/// Siblings that are named before the others are counted.
pub(crate) const NAMED_MAX: usize = 100;

fn open_dependencies<'a>(named: impl Iterator<Item = &'a Key>, rest: u32, since: Timestamp) -> Vec<WaitingOn> {
    let wait = |reference, open| WaitingOn { kind: WaitKind::Dependency, reference, open: Some(open), since, until: None };
    let mut waits: Vec<WaitingOn> = named.take(NAMED_MAX).map(|key| wait(Some(key.to_string()), 1)).collect();
    waits.extend((rest > 0).then(|| wait(None, rest)));
    waits
}

impl From<Task> for TaskBody {
    fn from(task: Task) -> Self {
        let waiting_on = waiting_on(&task);
        let (output, output_ref) = output_forms(task.output);
        let (error_code, error_msg) = task.error.map(|error| (error.code, error.message)).unzip();
        Self {
            id: task.id,
            trace_id: task.trace_id,
            parent_id: task.parent_id,
            job_id: task.job_id,
            definition_version: task.definition_version,
            key: task.key,
            actor_type: task.actor_type.into(),
            role: task.role,
            layer: task.layer,
            depth: task.depth,
            is_leaf_agent: task.is_leaf_agent,
            node_path: task.node_path,
            round_index: task.round_index,
            status: task.status.into(),
            phase: task.phase.into(),
            cancelling: task.cancelling,
            paused: task.paused,
            waiting_on,
            depends_on: task.depends_on,
            run_on: task.run_on.into(),
            open_deps: task.open_deps,
            split_count: task.split_count,
            completed_children: task.completed_children,
            succeeded_children: task.succeeded_children,
            priority: task.priority,
            attempt: task.attempt,
            max_retries: task.max_retries,
            timeout_sec: task.timeout_sec,
            run_after: task.run_after,
            lane: task.lane,
            lease_owner: task.lease_owner,
            lease_expires_at: task.lease_expires_at,
            fence: task.fence,
            input_params: task.input_params,
            output,
            output_ref,
            progress: task.progress,
            progress_message: task.progress_message,
            error_code,
            error_msg,
            created_at: task.created_at,
            started_at: task.started_at,
            finished_at: task.finished_at,
            updated_at: task.updated_at,
            attempts: None,
        }
    }
}

/// Something that a task waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct WaitingOn {
    pub(crate) kind: WaitKind,
    /// Which one: a sibling's key; a limit, as `GET /limits` names it. Null: those that are not named, of a dependency those beyond the
    /// first 100 or, in lists, all of them.
    #[serde(rename = "ref")]
    pub(crate) reference: Option<String>,
    /// How many of the kind are open.
    pub(crate) open: Option<u32>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
    /// Until when at the least, where that is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) until: Option<Timestamp>,
}

/// What kinds of things a task waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WaitKind {
    /// Siblings that it depends on.
    Dependency,
    /// Tasks that it split off.
    Children,
    /// Its time.
    Time,
    /// The operator's night.
    Window,
    /// The pause before a retry.
    Backoff,
    /// Somebody's order to go on.
    Pause,
    /// A limit of its definition, of its key, of its user, or of starts in a while.
    Limit,
    /// A free place to run, in the lane that `ref` names: a slot of a host, a container, or an outside worker that asks.
    Slot,
}

fn waiting_on(task: &Task) -> Vec<WaitingOn> {
    use tower_domain::task::Phase;
    let wait = |kind, reference, open, until| WaitingOn { kind, reference, open, since: task.updated_at, until };
    match task.phase {
        Phase::Scheduled if task.waits_for_night => vec![wait(WaitKind::Window, None, None, task.run_after)],
        Phase::Scheduled => vec![wait(WaitKind::Time, None, None, task.run_after)],
        Phase::Backoff => vec![wait(WaitKind::Backoff, None, None, task.run_after)],
        Phase::Paused => vec![wait(WaitKind::Pause, None, None, None)],
        Phase::Queued if let Some(limit) = &task.limit => vec![wait(WaitKind::Limit, Some(limit.gate.to_string()), None, limit.opens_at)],
        Phase::Queued => vec![wait(WaitKind::Slot, Some(task.lane.to_string()), None, None)],
        Phase::WaitingChildren => vec![wait(WaitKind::Children, None, Some(task.split_count.saturating_sub(task.completed_children)), None)],
        // Which of several are open is not in the task's own row: they are named when it is all of them, and counted otherwise.
        Phase::WaitingDeps if task.depends_on.len() == task.open_deps as usize => {
            open_dependencies(task.depends_on.iter(), task.open_deps.saturating_sub(NAMED_MAX as u32), task.updated_at)
        }
        Phase::WaitingDeps => open_dependencies(std::iter::empty(), task.open_deps, task.updated_at),
        Phase::Executing | Phase::Aggregating | Phase::Done | Phase::Cached | Phase::DeadLetter => Vec::new(),
    }
}

/// A round of a LOOP that ended well.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Round)]
pub(crate) struct RoundBody {
    /// From 0.
    pub(crate) round_index: u32,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) finished_at: Timestamp,
    /// Children split off in it.
    pub(crate) split_count: u32,
    /// Those that succeeded.
    pub(crate) succeeded_children: u32,
    /// What it left, up to 64 KiB.
    #[schema(value_type = Option<Value>)]
    pub(crate) output: Option<Json>,
    /// Where that is, if it is larger.
    pub(crate) output_ref: Option<String>,
}

impl From<Round> for RoundBody {
    fn from(round: Round) -> Self {
        let (output, output_ref) = output_forms(round.output);
        let ChildCounts { split, succeeded, .. } = round.children;
        Self { round_index: round.round_index, finished_at: round.finished_at, split_count: split, succeeded_children: succeeded, output, output_ref }
    }
}

/// An attempt that ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Attempt)]
pub(crate) struct AttemptBody {
    /// Which attempt at this leg, from 1.
    pub(crate) attempt: u32,
    pub(crate) leg: Leg,
    pub(crate) fence: u64,
    /// Where it ran; empty where nobody noted it.
    pub(crate) host: String,
    /// `SUCCESS`, `SPLIT`, `ROUND`, `PAUSED`, `RETRYABLE`, `FATAL`, `CANCELLED`, `RELEASED` or `LEASE_EXPIRED`.
    pub(crate) result: String,
    pub(crate) error: Option<ErrorBody>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) finished_at: Timestamp,
}

impl From<Attempt> for AttemptBody {
    fn from(attempt: Attempt) -> Self {
        let Attempt { fence, attempt, leg, host, started_at, finished_at, result, error } = attempt;
        Self { attempt, leg: leg.into(), fence, host, result, error: error.map(Into::into), started_at, finished_at }
    }
}
