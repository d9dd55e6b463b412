//! The domain's nouns from rows: which columns they need, and how those are read.

use std::collections::HashMap;

use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use tower_domain::aggregation::ChildCounts;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::TaskId;
use tower_domain::lifecycle::Hours;
use tower_domain::task::{Attempt, Phase, Round, Task};
use tower_domain::trace::Trace;

use super::rows::{Columns, id_array};
use super::statements;
use super::words::State;
use crate::StoreError;

/// Columns of [`event`], of `events AS e` with its `tasks AS t`.
macro_rules! event_columns {
    () => {
        "e.event_id, e.seq, e.trace_id, e.task_id, t.parent_id, t.actor_type, e.event_type, e.from_status, e.to_status, e.payload, e.at"
    };
}
pub(super) use event_columns;

/// Columns of [`trace`], of `traces AS t` with its root, `tasks AS r`.
macro_rules! trace_columns {
    () => {
        "t.trace_id, t.root_task_id, t.definition_id, t.definition_version, t.user_id, t.trigger_type, t.triggered_by, t.idempotency_key, \
         t.labels, t.rerun_of, t.cron_trigger_time, t.status, t.cancelling, r.paused, t.count_pending, t.count_running, t.count_success, t.count_failed, \
         t.count_cancelled, t.count_skipped, t.last_seq, t.created_at, t.started_at, t.finished_at, \
         r.input_params, r.output, r.output_ref, r.error_code, r.error_message"
    };
}
pub(super) use trace_columns;

/// Columns of [`task`], of `tasks AS t` with its version of the definition and its place in the queue.
macro_rules! task_columns {
    () => {
        "t.id, t.trace_id, t.parent_id, t.job_id, t.definition_version, t.key, t.actor_type, coalesce(v.role, ''), t.layer, t.depth, \
         t.is_leaf_agent, t.round_index, t.state, t.cancelling, t.paused, t.hours, t.depends_on, t.run_on, t.open_deps, t.split_count, t.completed_children, \
         t.succeeded_children, t.priority, t.attempt, t.max_retries, t.timeout_sec, t.run_after, q.owner, q.lease_until, t.fence, \
         t.input_params, t.output, t.output_ref, t.progress, t.progress_message, t.error_code, t.error_message, t.started_at, \
         t.finished_at, t.created_at, t.updated_at"
    };
}
pub(super) use task_columns;

/// What [`task_columns`] needs beside `tasks AS t`.
macro_rules! task_joins {
    () => {
        " LEFT JOIN queue AS q ON q.task_id = t.id \
         LEFT JOIN definition_versions AS v ON v.definition_id = t.job_id AND v.version = t.definition_version "
    };
}
pub(super) use task_joins;

statements! {
    // From the parents of a page's tasks up to the roots.
    ANCESTORS = "WITH RECURSIVE up (id, parent_id) AS ( \
             SELECT t.id, t.parent_id FROM json_each(?1) AS i CROSS JOIN tasks AS t ON t.id = unhex(i.value) \
             UNION SELECT t.id, t.parent_id FROM up CROSS JOIN tasks AS t ON t.id = up.parent_id) \
         SELECT id, parent_id FROM up";
}

/// Reads [`trace_columns`].
pub(super) fn trace(row: &SqliteRow) -> Result<Trace, StoreError> {
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
        status: columns.word()?,
        cancelling: columns.flag()?,
        paused: columns.flag()?,
        counts: super::tx_read::counts(&mut columns)?,
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

/// Reads rows of [`task_columns`], and finds the paths to them.
pub(super) async fn tasks(conn: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Task>, StoreError> {
    let mut tasks: Vec<Task> = rows.iter().map(task).collect::<Result<_, _>>()?;
    let mut parents: Vec<TaskId> = tasks.iter().filter_map(|task| task.parent_id).collect();
    parents.sort_unstable();
    parents.dedup();
    let mut above: HashMap<TaskId, Option<TaskId>> = HashMap::new();
    if !parents.is_empty() {
        for row in &sqlx::query(ANCESTORS).bind(id_array(parents)).fetch_all(conn).await? {
            let mut columns = Columns::of(row, "tasks");
            above.insert(columns.id()?, columns.opt_id()?);
        }
    }
    for task in &mut tasks {
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
    Ok(tasks)
}

fn task(row: &SqliteRow) -> Result<Task, StoreError> {
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

/// Reads [`event_columns`].
pub(super) fn event(row: &SqliteRow) -> Result<TaskEvent, StoreError> {
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

pub(super) fn round(row: &SqliteRow) -> Result<Round, StoreError> {
    let mut columns = Columns::of(row, "rounds");
    Ok(Round {
        round_index: columns.uint()?,
        finished_at: columns.at()?,
        children: ChildCounts { split: columns.uint()?, ended: columns.uint()?, succeeded: columns.uint()? },
        output: columns.output()?,
    })
}

pub(super) fn attempt(row: &SqliteRow) -> Result<Attempt, StoreError> {
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

pub(super) fn control_event(row: &SqliteRow) -> Result<ControlEvent, StoreError> {
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
