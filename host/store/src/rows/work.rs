//! What a batch reads and writes.

use std::collections::HashMap;

use tower_domain::aggregation::ChildCounts;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::{Control, ControlEvent, ScheduleOrder};
use tower_domain::event::TaskEvent;
use tower_domain::id::TaskId;
use tower_domain::lifecycle::TaskState;
use tower_domain::step::Summary;
use tower_domain::task::{Attempt, Leg, Status};
use tower_domain::trace::Counts;

use super::words::{State, Word};
use super::{Bind, Cells, Columns};
use crate::StoreError;
use crate::apply::tx::{KnownKey, NewTask, NewTraceRow, OldTask, QueuePlace, QueueRow, RoundRow, StepInput, TaskRow, TaskWrites, TraceRow};
use crate::read::LaneUse;

/// Columns of [`task_row`], of `tasks AS t`.
macro_rules! task_row_columns {
    () => {
        "t.id, t.trace_id, t.parent_id, t.key, t.actor_type, t.priority, t.aggregation, \
         t.state, t.leg, t.cancelling, t.paused, t.hours, t.fence, t.attempt, t.max_retries, t.crashes, t.open_deps, t.run_on, t.run_after, \
         t.split_count, t.completed_children, t.succeeded_children, t.round_index, t.started_at, t.finished_at, t.progress, t.progress_message, \
         t.lane, t.gates, t.parked"
    };
}

pub(crate) use task_row_columns;

/// Columns of [`old_task`] after those of [`task_row`].
macro_rules! old_task_columns {
    () => {
        "t.job_id, t.definition_version, t.timeout_sec, t.layer, t.depth, t.is_leaf_agent, t.created_at, t.depends_on, \
         t.input_params, t.output, t.output_ref, t.carried, t.carried_ref"
    };
}

pub(crate) use old_task_columns;

/// Columns of [`trace_row`], of `traces AS t`.
macro_rules! trace_row_columns {
    () => {
        "t.trace_id, t.root_task_id, t.count_pending, t.count_running, t.count_success, t.count_failed, t.count_cancelled, \
         t.count_skipped, t.last_seq, t.rank, t.status, t.cancelling, t.started_at, t.finished_at, t.created_at, t.session_id, \
         t.cron_trigger_time"
    };
}
pub(crate) use trace_row_columns;

/// Reads [`task_row_columns`].
pub(crate) fn task_row(columns: &mut Columns<'_, impl Cells>) -> Result<TaskRow, StoreError> {
    let (id, trace_id, parent_id, key) = (columns.id()?, columns.id()?, columns.opt_id()?, columns.key()?);
    let (actor_type, priority, aggregation) = (columns.word()?, columns.uint()?, columns.word()?);
    let State { status, phase } = columns.word()?;
    let state = TaskState {
        stage: TaskState::stage_of(phase, status).ok_or_else(|| columns.bad(format_args!("{phase} in a version without it")))?,
        leg: columns.word()?,
        control: control(columns.flag()?, columns.flag()?),
        hours: columns.word()?,
        fence: columns.uint()?,
        attempt: columns.uint()?,
        max_retries: columns.uint()?,
        crashes: columns.uint()?,
        open_deps: columns.uint()?,
        run_on: columns.word()?,
        run_after: columns.opt_at()?,
        children: ChildCounts { split: columns.uint()?, ended: columns.uint()?, succeeded: columns.uint()? },
        round: columns.uint()?,
    };
    Ok(TaskRow {
        id,
        trace_id,
        parent_id,
        key,
        actor_type,
        priority,
        aggregation,
        state,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        progress: columns.uint()?,
        progress_message: columns.text()?,
        lane: columns.lane()?,
        gates: columns.read()?,
        parked: columns.opt_uint()?,
    })
}

/// Task, whether it is cancelled, whether it is held, and why it is cancelled.
pub(crate) fn held_task(row: &impl Cells) -> Result<(TaskId, Control, Option<String>), StoreError> {
    let mut columns = Columns::of(row, "tasks");
    Ok((columns.id()?, control(columns.flag()?, columns.flag()?), columns.opt_text()?))
}

/// What holds for a task, from its two columns.
fn control(cancelling: bool, paused: bool) -> Control {
    match (cancelling, paused) {
        (true, _) => Control::Cancel,
        (false, true) => Control::Pause,
        (false, false) => Control::Run,
    }
}

pub(crate) fn old_task(row: &impl Cells) -> Result<OldTask, StoreError> {
    let mut columns = Columns::of(row, "tasks");
    let row = task_row(&mut columns)?;
    let task = NewTask {
        row,
        job_id: columns.name()?,
        definition_version: columns.uint()?,
        timeout_sec: columns.uint()?,
        layer: columns.uint()?,
        depth: columns.uint()?,
        is_leaf_agent: columns.flag()?,
        created_at: columns.at()?,
        depends_on: columns.read()?,
        input_params: columns.json()?,
        open_deps: Vec::new(),
        ended_deps: Vec::new(),
        writes: TaskWrites::default(),
    };
    Ok(OldTask { task, depends_on_ids: Vec::new(), output: columns.output()?, carried: columns.output()? })
}

/// Reads [`trace_row_columns`].
pub(crate) fn trace_row(columns: &mut Columns<'_, impl Cells>) -> Result<TraceRow, StoreError> {
    Ok(TraceRow {
        trace_id: columns.id()?,
        root_task_id: columns.id()?,
        counts: counts(columns)?,
        last_seq: columns.uint()?,
        rank: columns.uint()?,
        status: columns.word()?,
        cancelling: columns.flag()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        created_at: columns.at()?,
        session_id: columns.opt_id()?,
        is_scheduled: columns.opt_at()?.is_some(),
        changed_at: None,
    })
}

/// Reads the six counters of a trace.
pub(crate) fn counts(columns: &mut Columns<'_, impl Cells>) -> Result<Counts, StoreError> {
    Ok(Counts {
        pending: columns.uint()?,
        running: columns.uint()?,
        success: columns.uint()?,
        failed: columns.uint()?,
        cancelled: columns.uint()?,
        skipped: columns.uint()?,
    })
}

pub(crate) fn bind_trace(params: &mut impl Bind, row: &TraceRow) {
    let counts = row.counts;
    params.word(row.status).int(row.cancelling).uint(counts.pending).uint(counts.running).uint(counts.success);
    params.uint(counts.failed).uint(counts.cancelled).uint(counts.skipped).uint(row.last_seq).uint(row.rank);
    params.opt_at(row.started_at).opt_at(row.finished_at);
}

pub(crate) fn bind_new_task(params: &mut impl Bind, new: &NewTask) {
    let NewTask { row, writes, .. } = new;
    let state = &row.state;
    params.id(row.id).id(row.trace_id).opt_id(row.parent_id).text(row.key.as_str());
    params.word(row.actor_type).int(row.priority).word(row.aggregation);
    params.word(State::of(state)).word(state.leg).int(state.control == Control::Cancel).int(state.control == Control::Pause);
    params
        .word(state.hours)
        .uint(state.fence)
        .int(state.attempt)
        .int(state.max_retries)
        .int(state.crashes)
        .int(state.open_deps)
        .word(state.run_on)
        .opt_at(state.run_after);
    params.int(state.children.split).int(state.children.ended).int(state.children.succeeded).int(state.round);
    params.opt_at(row.started_at).opt_at(row.finished_at).int(row.progress).text(row.progress_message.as_str());
    params.text(new.job_id.as_str()).int(new.definition_version).int(new.timeout_sec);
    params.int(new.layer).int(new.depth).int(new.is_leaf_agent).at(new.created_at);
    let keys = (!new.depends_on.is_empty()).then(|| serde_json::to_string(&new.depends_on).expect("a list of keys is always JSON"));
    params.opt_text(keys).text(new.input_params.as_str());
    params.output(writes.output.as_ref()).output(writes.carried.as_ref()).error(writes.error.as_ref());
    let gates = (!row.gates.is_empty()).then(|| serde_json::to_string(&row.gates).expect("a list of names is always JSON"));
    params.opt_text(gates).opt_int(row.parked).lane(&row.lane);
}

/// Which of the long columns change.
pub(crate) fn bits(writes: &TaskWrites) -> i64 {
    i64::from(writes.output.is_some()) + 2 * i64::from(writes.carried.is_some()) + 4 * i64::from(writes.error.is_some() || writes.clear_error)
}

pub(crate) fn bind_task(params: &mut impl Bind, row: &TaskRow) {
    let state = &row.state;
    params.id(row.id).int(State::of(state).code()).word(state.leg).int(state.control == Control::Cancel).int(state.control == Control::Pause);
    params.word(state.hours).uint(state.fence).int(state.attempt).int(state.crashes).int(state.open_deps).opt_at(state.run_after);
    params.int(state.children.split).int(state.children.ended).int(state.children.succeeded).int(state.round);
    params.opt_at(row.started_at).opt_at(row.finished_at).int(row.progress).text(row.progress_message.as_str()).opt_int(row.parked);
}

pub(crate) fn bind_new_trace(params: &mut impl Bind, new: &NewTraceRow) {
    params.id(new.row.trace_id).id(new.row.root_task_id);
    bind_trace(params, &new.row);
    let labels = (!new.labels.is_empty()).then(|| serde_json::to_string(&new.labels).expect("a map of texts is always JSON"));
    params
        .at(new.row.created_at)
        .int(new.definition_version)
        .word(new.trigger_type)
        .opt_id(new.rerun_of)
        .text(new.definition_id.as_str())
        .text(new.user_id.as_str())
        .text(new.triggered_by.as_str())
        .opt_text(new.idempotency_key.as_deref())
        .opt_text(labels)
        .opt_at(new.cron_trigger_time)
        .opt_id(new.row.session_id);
}

pub(crate) fn bind_event(params: &mut impl Bind, event: &TaskEvent) {
    params.id(event.trace_id).uint(event.seq).id(event.task_id).word(event.event_type);
    params.opt_word(event.from).opt_word(event.to).at(event.at);
    params.opt_text(event.event_id.as_deref()).opt_text(event.payload.as_ref().map(|payload| payload.as_str()));
}

pub(crate) fn bind_attempt(params: &mut impl Bind, task: TaskId, attempt: &Attempt) {
    params.id(task).uint(attempt.fence).int(attempt.attempt).word(attempt.leg).at(attempt.started_at).at(attempt.finished_at);
    params.text(attempt.result.as_str()).text(attempt.host.as_str()).error(attempt.error.as_ref());
}

pub(crate) fn bind_round(params: &mut impl Bind, row: &RoundRow) {
    params.id(row.task_id).int(row.round).at(row.finished_at);
    params.int(row.children.split).int(row.children.ended).int(row.children.succeeded).output(row.output.as_ref());
}

pub(crate) fn bind_queue(params: &mut impl Bind, row: &QueueRow) {
    let (place, due, until, owner, gate, lane) = match &row.place {
        QueuePlace::Ready(Lane::Process) => (0, None, None, None, None, &Lane::Process),
        QueuePlace::Ready(lane) => (4, None, None, None, None, lane),
        QueuePlace::Due(at) => (1, Some(*at), None, None, None, &Lane::Process),
        QueuePlace::Claimed { owner, until } => (2, None, Some(*until), Some(owner.as_str()), None, &Lane::Process),
        QueuePlace::Parked(gate) => (3, None, None, None, Some(gate.to_string()), &Lane::Process),
    };
    params.id(row.task_id).int(place).int(row.priority).uint(row.rank).opt_at(due).opt_at(until).opt_text(owner).opt_text(gate).lane(lane);
}

pub(crate) fn bind_control_event(params: &mut impl Bind, order: &ControlEvent) {
    params.id(order.trace_id).id(order.id).opt_id(order.task_id).word(order.action).at(order.created_at);
    params.text(order.triggered_by.as_str()).text(order.reason.as_str());
}

pub(crate) fn bind_schedule_order(params: &mut impl Bind, order: &ScheduleOrder) {
    params.id(order.id).text(order.definition_id.as_str()).word(order.action).at(order.created_at);
    params.text(order.triggered_by.as_str()).text(order.reason.as_str());
}

pub(crate) fn bind_key(params: &mut impl Bind, key: &KnownKey, now: Timestamp) {
    params.text(key.key.as_str()).bytes(&key.fingerprint).id(key.trace_id).id(key.root_task_id).at(now);
}

pub(crate) fn known_key(row: &impl Cells) -> Result<KnownKey, StoreError> {
    let mut columns = Columns::of(row, "idempotency_keys");
    Ok(KnownKey { key: columns.text()?, fingerprint: columns.hash()?, trace_id: columns.id()?, root_task_id: columns.id()? })
}

/// Columns of [`step_input`], of `tasks AS t`.
macro_rules! step_input_columns {
    () => {
        "t.id, t.job_id, t.definition_version, t.timeout_sec, t.layer, t.depth, t.input_params, t.carried, t.carried_ref, t.depends_on IS NOT NULL"
    };
}
pub(crate) use step_input_columns;

/// Reads [`step_input_columns`]; and whether the task named dependencies.
pub(crate) fn step_input(row: &impl Cells) -> Result<(StepInput, bool), StoreError> {
    let mut columns = Columns::of(row, "tasks");
    let input = StepInput {
        task_id: columns.id()?,
        definition_id: columns.name()?,
        definition_version: columns.uint()?,
        timeout_sec: columns.uint()?,
        layer: columns.uint()?,
        depth: columns.uint()?,
        params: columns.json()?,
        carried: columns.output()?,
        upstream: Vec::new(),
        summary: None,
    };
    Ok((input, columns.flag()?))
}

/// A lane, and how many can be claimed in it.
pub(crate) fn lane_use(row: &impl Cells) -> Result<LaneUse, StoreError> {
    let mut columns = Columns::of(row, "queue");
    Ok(LaneUse { lane: columns.lane()?, ready: columns.uint()? })
}

/// How many results there are to fold, for those tasks that fold.
#[derive(Default)]
pub(crate) struct Summaries {
    pub(crate) done: HashMap<TaskId, Summary>,
    /// Tasks whose children are to be counted.
    pub(crate) of_children: Vec<TaskId>,
    /// Tasks whose dependencies are to be counted.
    pub(crate) of_dependencies: Vec<TaskId>,
}

impl Summaries {
    /// What can be said without counting, and what is to be counted.
    pub(crate) fn of(tasks: &[TaskRow]) -> Self {
        let mut summaries = Self::default();
        for task in tasks {
            let children = task.state.children;
            match task.state.leg {
                // The counters tell all but how the others ended.
                Leg::Aggregate if children.succeeded == children.split => {
                    summaries.done.insert(task.id, Summary { expected: children.split, succeeded: children.split, ..Summary::default() });
                }
                Leg::Aggregate => summaries.of_children.push(task.id),
                Leg::Run if task.actor_type.is_aggregator() => {
                    summaries.done.insert(task.id, Summary::default());
                    summaries.of_dependencies.push(task.id);
                }
                Leg::Run => {}
            }
        }
        summaries
    }

    /// Takes a row of task, state and how many of its children or dependencies are in that.
    pub(crate) fn count(&mut self, row: &impl Cells) -> Result<(), StoreError> {
        let mut columns = Columns::of(row, "tasks");
        let (task, State { status, .. }, count): (TaskId, State, u32) = (columns.id()?, columns.word()?, columns.uint()?);
        let summary = self.done.entry(task).or_default();
        summary.expected += count;
        match status {
            Status::Success => summary.succeeded += count,
            Status::Failed => summary.failed += count,
            Status::Cancelled => summary.cancelled += count,
            Status::Skipped => summary.skipped += count,
            Status::Pending | Status::Running => {}
        }
        Ok(())
    }
}
