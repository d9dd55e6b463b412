//! The domain's nouns from rows: which columns they need, and how those are read.

use std::collections::HashMap;

use tower_domain::aggregation::ChildCounts;
use tower_domain::control::{ControlEvent, KeptOrder};
use tower_domain::definition::Definition;
use tower_domain::event::TaskEvent;
use tower_domain::id::TaskId;
use tower_domain::lifecycle::Hours;
use tower_domain::limit::Gate;
use tower_domain::module::{Module, ModuleTag};
use tower_domain::schedule::Schedule;
use tower_domain::split::ExistingChild;
use tower_domain::task::{Attempt, LimitWait, Phase, Round, Task, TaskResult};
use tower_domain::trace::Trace;

use super::Bind;
use super::columns::{Cells, Columns};
use super::words::State;
use crate::StoreError;
use crate::read::{DeadLetterGroup, KeyUse};

/// Columns of [`event`], of `events AS e` with its `tasks AS t`.
macro_rules! event_columns {
    () => {
        "e.event_id, e.seq, e.trace_id, e.task_id, t.parent_id, t.actor_type, e.event_type, e.from_status, e.to_status, e.payload, e.at"
    };
}
pub(crate) use event_columns;

/// Columns of [`trace`], of `traces AS t` with its root, `tasks AS r`.
macro_rules! trace_columns {
    () => {
        "t.trace_id, t.root_task_id, t.definition_id, t.definition_version, t.user_id, t.trigger_type, t.triggered_by, t.idempotency_key, \
         t.labels, t.rerun_of, t.cron_trigger_time, t.session_id, t.status, t.cancelling, r.paused, t.count_pending, t.count_running, t.count_success, t.count_failed, \
         t.count_cancelled, t.count_skipped, t.last_seq, t.created_at, t.started_at, t.finished_at, \
         r.input_params, r.output, r.output_ref, r.error_code, r.error_message"
    };
}
pub(crate) use trace_columns;

/// Columns of [`task`], of `tasks AS t` with its version of the definition and its place in the queue.
macro_rules! task_columns {
    () => {
        "t.id, t.trace_id, t.parent_id, t.job_id, t.definition_version, t.key, t.actor_type, coalesce(v.role, ''), t.layer, t.depth, \
         t.is_leaf_agent, t.round_index, t.state, t.cancelling, t.paused, t.hours, t.depends_on, t.run_on, t.open_deps, t.split_count, t.completed_children, \
         t.succeeded_children, t.priority, t.attempt, t.max_retries, t.timeout_sec, t.run_after, t.lane, q.gate, g.opens_at, q.owner, q.lease_until, t.fence, \
         t.input_params, t.output, t.output_ref, t.progress, t.progress_message, t.error_code, t.error_message, t.started_at, \
         t.finished_at, t.created_at, t.updated_at"
    };
}
pub(crate) use task_columns;

/// What [`task_columns`] needs beside `tasks AS t`.
macro_rules! task_joins {
    () => {
        " LEFT JOIN queue AS q ON q.task_id = t.id LEFT JOIN gates AS g ON g.gate = q.gate \
         LEFT JOIN definition_versions AS v ON v.definition_id = t.job_id AND v.version = t.definition_version "
    };
}
pub(crate) use task_joins;

/// Reads [`trace_columns`].
pub(crate) fn trace(row: &impl Cells) -> Result<Trace, StoreError> {
    let mut columns = Columns::of(row, "traces");
    let trace = Trace {
        trace_id: columns.id()?,
        root_task_id: columns.id()?,
        definition_id: columns.name()?,
        definition_version: columns.uint()?,
        user_id: columns.text()?,
        trigger_type: columns.word()?,
        triggered_by: columns.text()?,
        idempotency_key: columns.opt_text()?,
        labels: columns.read()?,
        rerun_of: columns.opt_id()?,
        cron_trigger_time: columns.opt_at()?,
        session_id: columns.opt_id()?,
        status: columns.word()?,
        cancelling: columns.flag()?,
        paused: columns.flag()?,
        counts: super::work::counts(&mut columns)?,
        last_seq: columns.uint()?,
        created_at: columns.at()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        params: columns.json()?,
        output: columns.output()?,
        error: columns.error()?,
    };
    // Orders outlive the trace in its rows, but no longer are under way.
    let is_open = !trace.status.is_terminal();
    Ok(Trace { cancelling: trace.cancelling && is_open, paused: trace.paused && is_open, ..trace })
}

/// Writes the paths into tasks. `above` has the parent of each of their parents, up to the roots.
pub(crate) fn set_paths(tasks: &mut [Task], above: &HashMap<TaskId, Option<TaskId>>) {
    for task in tasks {
        let mut path = vec![task.id];
        let mut next = task.parent_id;
        while let Some(id) = next {
            path.push(id);
            // Each is taken once: a circle in a broken table ends.
            next = above.get(&id).copied().flatten().filter(|_| path.len() <= above.len() + 1);
        }
        task.node_path = format!("/{}/", task.trace_id);
        for id in path.into_iter().rev() {
            task.node_path.push_str(&format!("{id}/"));
        }
    }
}

/// Parents of tasks, each once.
pub(crate) fn parents(tasks: &[Task]) -> Vec<TaskId> {
    let mut parents: Vec<TaskId> = tasks.iter().filter_map(|task| task.parent_id).collect();
    parents.sort_unstable();
    parents.dedup();
    parents
}

/// Reads [`task_columns`]; the path is not among them.
pub(crate) fn task(row: &impl Cells) -> Result<Task, StoreError> {
    let mut columns = Columns::of(row, "tasks");
    let (id, trace_id, parent_id, job_id, definition_version) = (columns.id()?, columns.id()?, columns.opt_id()?, columns.name()?, columns.uint()?);
    let (key, actor_type, role, layer, depth) = (columns.key()?, columns.word()?, columns.text()?, columns.uint()?, columns.uint()?);
    let (is_leaf_agent, round_index, State { status, phase }) = (columns.flag()?, columns.uint()?, columns.word()?);
    Ok(Task {
        id,
        trace_id,
        parent_id,
        job_id,
        definition_version,
        key,
        actor_type,
        role,
        layer,
        depth,
        is_leaf_agent,
        round_index,
        status,
        phase,
        cancelling: columns.flag()? && !status.is_terminal(),
        paused: columns.flag()? && !status.is_terminal(),
        waits_for_night: columns.word::<Hours>()? == Hours::Night { waits: true } && phase == Phase::Scheduled,
        depends_on: columns.read()?,
        run_on: columns.word()?,
        open_deps: columns.uint()?,
        split_count: columns.uint()?,
        completed_children: columns.uint()?,
        succeeded_children: columns.uint()?,
        priority: columns.uint()?,
        attempt: columns.uint()?,
        max_retries: columns.uint()?,
        timeout_sec: columns.uint()?,
        run_after: columns.opt_at()?,
        lane: columns.lane()?,
        limit: limit_wait(&mut columns)?,
        lease_owner: columns.opt_text()?,
        lease_expires_at: columns.opt_at()?,
        fence: columns.uint()?,
        input_params: columns.json()?,
        output: columns.output()?,
        progress: columns.uint()?,
        progress_message: columns.text()?,
        error: columns.error()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        created_at: columns.at()?,
        updated_at: columns.at()?,
        node_path: String::new(),
    })
}

fn limit_wait(columns: &mut Columns<'_, impl Cells>) -> Result<Option<LimitWait>, StoreError> {
    let (gate, opens_at) = (columns.opt_gate()?, columns.opt_at()?);
    Ok(gate.map(|gate| LimitWait { opens_at: opens_at.filter(|_| matches!(gate, Gate::Rate(_))), gate }))
}

/// Reads [`event_columns`].
pub(crate) fn event(row: &impl Cells) -> Result<TaskEvent, StoreError> {
    let mut columns = Columns::of(row, "events");
    Ok(TaskEvent {
        event_id: columns.opt_text()?,
        seq: columns.uint()?,
        trace_id: columns.id()?,
        task_id: columns.id()?,
        parent_id: columns.opt_id()?,
        actor_type: columns.word()?,
        event_type: columns.word()?,
        from: columns.opt_word()?,
        to: columns.opt_word()?,
        payload: columns.opt_json()?,
        at: columns.at()?,
    })
}

pub(crate) fn round(row: &impl Cells) -> Result<Round, StoreError> {
    let mut columns = Columns::of(row, "rounds");
    Ok(Round {
        round_index: columns.uint()?,
        finished_at: columns.at()?,
        children: ChildCounts { split: columns.uint()?, ended: columns.uint()?, succeeded: columns.uint()? },
        output: columns.output()?,
    })
}

pub(crate) fn attempt(row: &impl Cells) -> Result<Attempt, StoreError> {
    let mut columns = Columns::of(row, "attempts");
    Ok(Attempt {
        fence: columns.uint()?,
        attempt: columns.uint()?,
        leg: columns.word()?,
        host: columns.text()?,
        started_at: columns.at()?,
        finished_at: columns.at()?,
        result: columns.text()?,
        error: columns.error()?,
    })
}

pub(crate) fn control_event(row: &impl Cells) -> Result<ControlEvent, StoreError> {
    let mut columns = Columns::of(row, "control_events");
    Ok(ControlEvent {
        id: columns.id()?,
        trace_id: columns.id()?,
        task_id: columns.opt_id()?,
        action: columns.word()?,
        triggered_by: columns.text()?,
        reason: columns.text()?,
        created_at: columns.at()?,
    })
}

/// Columns of [`task_result`], of `tasks AS t`.
macro_rules! task_result_columns {
    () => {
        "t.id, t.key, t.state, t.output, t.output_ref, t.error_code, t.error_message"
    };
}
pub(crate) use task_result_columns;

/// Reads [`task_result_columns`].
pub(crate) fn task_result(columns: &mut Columns<'_, impl Cells>) -> Result<TaskResult, StoreError> {
    let (task_id, key) = (columns.id()?, columns.key()?);
    let State { status, .. } = columns.word()?;
    Ok(TaskResult { task_id, key, status, output: columns.output()?, error: columns.error()? })
}

pub(crate) fn existing_child(row: &impl Cells) -> Result<ExistingChild, StoreError> {
    let mut columns = Columns::of(row, "tasks");
    Ok(ExistingChild { id: columns.id()?, key: columns.key()?, definition: columns.name()?, params: columns.json()? })
}

pub(crate) fn key_use(row: &impl Cells) -> Result<KeyUse, StoreError> {
    let mut columns = Columns::of(row, "idempotency_keys");
    Ok(KeyUse { fingerprint: columns.hash()?, trace_id: columns.id()?, root_task_id: columns.id()? })
}

pub(crate) fn dead_letter_group(row: &impl Cells) -> Result<DeadLetterGroup, StoreError> {
    let mut columns = Columns::of(row, "tasks");
    Ok(DeadLetterGroup {
        name: columns.opt_text()?.unwrap_or_default(),
        dead_letters: columns.uint()?,
        traces: columns.uint()?,
        newest: columns.id()?,
        newest_at: columns.at()?,
        newest_message: columns.opt_text()?.unwrap_or_default(),
    })
}

/// Columns of [`definition`], of `definitions AS d` with one of its `definition_versions AS v`.
macro_rules! definition_columns {
    () => {
        "d.id, v.version, v.spec, d.created_at, v.current_from"
    };
}
pub(crate) use definition_columns;

/// Reads [`definition_columns`].
pub(crate) fn definition(row: &impl Cells) -> Result<Definition, StoreError> {
    let mut columns = Columns::of(row, "definition_versions");
    let (id, version) = (columns.name()?, columns.uint()?);
    let spec = columns.json()?.read().map_err(|error| columns.bad(error))?;
    Ok(Definition { id, version, spec, created_at: columns.at()?, updated_at: columns.at()? })
}

pub(crate) fn module_tag(row: &impl Cells) -> Result<ModuleTag, StoreError> {
    let mut columns = Columns::of(row, "module_tags");
    Ok(ModuleTag { name: columns.name()?, tag: columns.name()?, digest: columns.digest()?, updated_at: columns.at()? })
}

pub(crate) fn module(row: &impl Cells) -> Result<Module, StoreError> {
    let mut columns = Columns::of(row, "modules");
    let inspection = columns.json()?.read().map_err(|error| columns.bad(error))?;
    Ok(Module { inspection, created_by: columns.text()?, created_at: columns.at()? })
}

/// Columns of [`schedule`], of `schedules AS s`.
macro_rules! schedule_columns {
    () => {
        "s.definition_id, s.definition_version, s.revision, s.state, s.anchor, s.next_at, s.last_at, s.last_trace_id, s.waiting_trace_id, \
         s.waited_until, s.fired, s.missed, s.skipped, s.updated_at"
    };
}
pub(crate) use schedule_columns;

pub(crate) fn kept_order(row: &impl Cells) -> Result<KeptOrder, StoreError> {
    let mut columns = Columns::of(row, "control_events");
    Ok(KeptOrder {
        id: columns.id()?,
        trace_id: columns.opt_id()?,
        task_id: columns.opt_id()?,
        definition_id: columns.opt_name()?,
        action: columns.word()?,
        triggered_by: columns.text()?,
        reason: columns.text()?,
        created_at: columns.at()?,
    })
}

/// Reads [`schedule_columns`].
pub(crate) fn schedule(row: &impl Cells) -> Result<Schedule, StoreError> {
    let mut columns = Columns::of(row, "schedules");
    Ok(Schedule {
        definition_id: columns.name()?,
        definition_version: columns.uint()?,
        revision: columns.uint()?,
        state: columns.word()?,
        anchor: columns.at()?,
        next_at: columns.opt_at()?,
        last_at: columns.opt_at()?,
        last_trace_id: columns.opt_id()?,
        waiting_trace_id: columns.opt_id()?,
        waited_until: columns.opt_at()?,
        fired: columns.uint()?,
        missed: columns.uint()?,
        skipped: columns.uint()?,
        updated_at: columns.at()?,
    })
}

/// Hands over [`schedule_columns`].
pub(crate) fn bind_schedule(params: &mut impl Bind, row: &Schedule) {
    params.text(row.definition_id.as_str()).int(row.definition_version).uint(row.revision).word(row.state).at(row.anchor);
    params.opt_at(row.next_at).opt_at(row.last_at).opt_id(row.last_trace_id).opt_id(row.waiting_trace_id).opt_at(row.waited_until);
    params.uint(row.fired).uint(row.missed).uint(row.skipped).at(row.updated_at);
}
