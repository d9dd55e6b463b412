//! What a transaction reads to decide: sets of rows by sets of ids.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use tower_domain::aggregation::ChildCounts;
use tower_domain::clock::Timestamp;
use tower_domain::control::Control;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::lifecycle::TaskState;
use tower_domain::trace::Counts;

use super::nouns::{self, event_columns};
use super::rows::Columns;
use super::statements;
use super::tx::SqliteTx;
use super::words::State;
use crate::StoreError;
use crate::apply::tx::{KnownKey, NewTask, OldTask, TaskRow, TaskWrites, TraceRow};

/// Columns of [`task_row`], of `tasks AS t`.
macro_rules! task_row_columns {
    () => {
        "t.id, t.trace_id, t.parent_id, t.key, t.actor_type, t.priority, t.aggregation, \
         t.state, t.leg, t.cancelling, t.paused, t.hours, t.fence, t.attempt, t.max_retries, t.crashes, t.open_deps, t.run_on, t.run_after, \
         t.split_count, t.completed_children, t.succeeded_children, t.round_index, t.started_at, t.finished_at, t.progress, t.progress_message"
    };
}

/// Columns of [`old_task`] after those of [`task_row`].
macro_rules! old_task_columns {
    () => {
        "t.job_id, t.definition_version, t.timeout_sec, t.layer, t.depth, t.is_leaf_agent, t.created_at, t.depends_on, \
         t.input_params, t.output, t.output_ref, t.carried, t.carried_ref"
    };
}

statements! {
    TASKS = concat!("SELECT ", task_row_columns!(), " FROM json_each(?) AS i CROSS JOIN tasks AS t ON t.id = unhex(i.value)");
    TRACES = "SELECT t.trace_id, t.root_task_id, t.count_pending, t.count_running, t.count_success, t.count_failed, t.count_cancelled, \
         t.count_skipped, t.last_seq, t.rank, t.status, t.cancelling, t.started_at, t.finished_at, t.created_at \
         FROM json_each(?) AS i CROSS JOIN traces AS t ON t.trace_id = unhex(i.value)";
    DEPENDENTS = "SELECT d.depends_on, d.task_id FROM json_each(?) AS i CROSS JOIN task_deps AS d ON d.depends_on = unhex(i.value)";
    // Of its present round; so for all that reads children to go on with a task.
    CHILDREN = concat!(
        "SELECT ", task_row_columns!(), " FROM tasks AS p CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index \
         WHERE p.id = ? ORDER BY t.id"
    );
    // 0 to 7 are the states of tasks that have not ended.
    OPEN_TASKS = concat!("SELECT ", task_row_columns!(), ", t.depth FROM tasks AS t WHERE t.trace_id = ? AND t.state IN (0, 1, 2, 3, 4, 5, 6, 7)");
    // Nothing is open below a task that has ended.
    OPEN_TASKS_BELOW = concat!(
        "WITH RECURSIVE below (id) AS (SELECT ? UNION ALL \
             SELECT c.id FROM below CROSS JOIN tasks AS c ON c.parent_id = below.id WHERE c.state < 8) \
         SELECT ", task_row_columns!(), ", t.depth FROM below CROSS JOIN tasks AS t ON t.id = below.id WHERE t.state < 8"
    );
    SPOILT = "WITH RECURSIVE spoilt (id) AS (SELECT t.id FROM tasks AS t WHERE t.trace_id = ? AND t.state IN (10, 11, 12, 13) \
         UNION SELECT t.id FROM tasks AS t WHERE t.id = ? AND t.trace_id = ? \
         UNION SELECT p.parent_id FROM spoilt AS s CROSS JOIN tasks AS p ON p.id = s.id WHERE p.parent_id IS NOT NULL) SELECT s.id FROM spoilt AS s";
    OLD_ROOT = concat!("SELECT ", task_row_columns!(), ", ", old_task_columns!(), " FROM tasks AS t WHERE t.trace_id = ? AND t.parent_id IS NULL");
    OLD_CHILDREN = concat!(
        "SELECT ", task_row_columns!(), ", ", old_task_columns!(),
        " FROM json_each(?) AS i CROSS JOIN tasks AS p ON p.id = unhex(i.value) \
         CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index"
    );
    OLD_DEPENDENCIES = "SELECT d.task_id, d.depends_on FROM json_each(?) AS i CROSS JOIN task_deps AS d ON d.task_id = unhex(i.value)";
    KNOWN_EVENTS = concat!(
        "SELECT ", event_columns!(), " FROM json_each(?) AS i CROSS JOIN events AS e ON e.event_id = i.value CROSS JOIN tasks AS t ON t.id = e.task_id"
    );
    KNOWN_KEYS = "SELECT k.key, k.fingerprint, k.trace_id, k.root_task_id \
         FROM json_each(?) AS i CROSS JOIN idempotency_keys AS k ON k.key = i.value WHERE k.created_at >= ?";
}

/// Rows of tasks, those that exist.
pub(super) async fn tasks(tx: &mut SqliteTx<'_>, ids: &[TaskId]) -> Result<Vec<TaskRow>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.params.ids(ids);
    let rows = tx.fetch(TASKS).await?;
    rows.iter().map(|row| task_row(&mut Columns::of(row, "tasks"))).collect()
}

/// Rows of traces, those that exist.
pub(super) async fn traces(tx: &mut SqliteTx<'_>, ids: &[TraceId]) -> Result<Vec<TraceRow>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.params.ids(ids);
    let rows = tx.fetch(TRACES).await?;
    rows.iter().map(trace_row).collect()
}

/// Pairs (dependency, dependent).
pub(super) async fn dependents(tx: &mut SqliteTx<'_>, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
    pairs(tx, DEPENDENTS, ids).await
}

async fn pairs(tx: &mut SqliteTx<'_>, statement: &'static str, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.params.ids(ids);
    let rows = tx.fetch(statement).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "task_deps");
            Ok((columns.id()?, columns.id()?))
        })
        .collect()
}

/// Children of a task.
pub(super) async fn children(tx: &mut SqliteTx<'_>, parent: TaskId) -> Result<Vec<TaskRow>, StoreError> {
    tx.params.id(parent);
    let rows = tx.fetch(CHILDREN).await?;
    rows.iter().map(|row| task_row(&mut Columns::of(row, "tasks"))).collect()
}

/// Tasks that have not ended, parents before their children.
pub(super) async fn open_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, subtree: Option<TaskId>) -> Result<Vec<TaskRow>, StoreError> {
    let rows = match subtree {
        Some(task) => {
            tx.params.id(task);
            tx.fetch(OPEN_TASKS_BELOW).await?
        }
        None => {
            tx.params.id(trace);
            tx.fetch(OPEN_TASKS).await?
        }
    };
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row, "tasks");
        let task = task_row(&mut columns)?;
        if task.trace_id == trace {
            tasks.push((columns.uint::<u32>()?, task));
        }
    }
    tasks.sort_unstable_by_key(|(depth, task)| (*depth, task.id));
    Ok(tasks.into_iter().map(|(_, task)| task).collect())
}

/// Tasks of an ended trace that did not succeed, one more, and everything above them.
pub(super) async fn spoilt_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, and: Option<TaskId>) -> Result<Vec<TaskId>, StoreError> {
    tx.params.id(trace).opt_id(and).id(trace);
    let rows = tx.fetch(SPOILT).await?;
    rows.iter().map(|row| Columns::of(row, "tasks").id()).collect()
}

/// Tasks of an ended trace, in the order in which they were made.
pub(super) async fn old_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, parents: Option<&[TaskId]>) -> Result<Vec<OldTask>, StoreError> {
    let rows = match parents {
        None => {
            tx.params.id(trace);
            tx.fetch(OLD_ROOT).await?
        }
        Some([]) => return Ok(Vec::new()),
        Some(parents) => {
            tx.params.ids(parents);
            tx.fetch(OLD_CHILDREN).await?
        }
    };
    let mut tasks: Vec<OldTask> = rows.iter().map(old_task).collect::<Result<_, _>>()?;
    tasks.retain(|old| old.task.row.trace_id == trace);
    tasks.sort_unstable_by_key(|old| old.task.row.id);
    let ids: Vec<TaskId> = tasks.iter().map(|old| old.task.row.id).collect();
    let mut on: HashMap<TaskId, Vec<TaskId>> = HashMap::new();
    for (task, dependency) in pairs(tx, OLD_DEPENDENCIES, &ids).await? {
        on.entry(task).or_default().push(dependency);
    }
    for old in &mut tasks {
        old.depends_on_ids = on.remove(&old.task.row.id).unwrap_or_default();
    }
    Ok(tasks)
}

/// Outside events that are known.
pub(super) async fn known_events(tx: &mut SqliteTx<'_>, ids: &[String]) -> Result<Vec<TaskEvent>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.params.text(text_array(ids));
    let rows = tx.fetch(KNOWN_EVENTS).await?;
    rows.iter().map(nouns::event).collect()
}

/// Keys that are known and not older than an instant.
pub(super) async fn known_keys(tx: &mut SqliteTx<'_>, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    tx.params.text(text_array(keys)).at(not_before);
    let rows = tx.fetch(KNOWN_KEYS).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "idempotency_keys");
            Ok(KnownKey { key: columns.text()?, fingerprint: columns.hash()?, trace_id: columns.id()?, root_task_id: columns.id()? })
        })
        .collect()
}

fn text_array(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("a list of texts is always JSON")
}

/// Reads [`task_row_columns`].
fn task_row(columns: &mut Columns<'_>) -> Result<TaskRow, StoreError> {
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
    })
}

/// What holds for a task, from its two columns.
fn control(cancelling: bool, paused: bool) -> Control {
    match (cancelling, paused) {
        (true, _) => Control::Cancel,
        (false, true) => Control::Pause,
        (false, false) => Control::Run,
    }
}

fn old_task(row: &SqliteRow) -> Result<OldTask, StoreError> {
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

fn trace_row(row: &SqliteRow) -> Result<TraceRow, StoreError> {
    let mut columns = Columns::of(row, "traces");
    Ok(TraceRow {
        trace_id: columns.id()?,
        root_task_id: columns.id()?,
        counts: counts(&mut columns)?,
        last_seq: columns.uint()?,
        rank: columns.uint()?,
        status: columns.word()?,
        cancelling: columns.flag()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        created_at: columns.at()?,
    })
}

/// Reads the six counters of a trace.
pub(super) fn counts(columns: &mut Columns<'_>) -> Result<Counts, StoreError> {
    Ok(Counts {
        pending: columns.uint()?,
        running: columns.uint()?,
        success: columns.uint()?,
        failed: columns.uint()?,
        cancelled: columns.uint()?,
        skipped: columns.uint()?,
    })
}
