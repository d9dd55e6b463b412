//! What a transaction reads to decide: sets of rows by sets of ids.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use tower_domain::clock::Timestamp;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};

use super::rows::{Bind, Columns};
use super::statements;
use super::tx::SqliteTx;
use crate::StoreError;
use crate::apply::tx::{KnownKey, OldTask, TaskRow, TraceRow};
use crate::rows::nouns::{self, event_columns};
use crate::rows::work::{known_key, old_task, old_task_columns, task_row, task_row_columns, trace_row, trace_row_columns};

statements! {
    TASKS = concat!("SELECT ", task_row_columns!(), " FROM json_each(?) AS i CROSS JOIN tasks AS t ON t.id = unhex(i.value)");
    TRACES = concat!("SELECT ", trace_row_columns!(), " FROM json_each(?) AS i CROSS JOIN traces AS t ON t.trace_id = unhex(i.value)");
    DEPENDENTS = "SELECT d.depends_on, d.task_id FROM json_each(?) AS i CROSS JOIN task_deps AS d ON d.depends_on = unhex(i.value)";
    // Of its present round; so for all that reads children to go on with a task.
    CHILDREN = concat!(
        "SELECT ", task_row_columns!(), " FROM tasks AS p CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index \
         WHERE p.id = ? ORDER BY t.id"
    );
    // 0 to 7 are the states of tasks that have not ended.
    OPEN_TASKS = concat!("SELECT ", task_row_columns!(), ", t.depth FROM tasks AS t WHERE t.trace_id = ? AND t.state IN (0, 1, 2, 3, 4, 5, 6, 7)");
    // 5 to 7: claimed, or waiting for children.
    BUSY_TASKS = concat!("SELECT ", task_row_columns!(), ", t.depth FROM tasks AS t WHERE t.trace_id = ? AND t.state IN (5, 6, 7)");
    IDLE_TASKS = concat!("SELECT ", task_row_columns!(), " FROM tasks AS t WHERE t.trace_id = ? AND t.state < 5 ORDER BY t.state, t.layer, t.id LIMIT ?");
    UNSWEPT = "SELECT t.trace_id FROM traces AS t WHERE t.cancelling = 1 AND t.finished_at IS NULL \
         AND EXISTS (SELECT 1 FROM tasks AS k WHERE k.trace_id = t.trace_id AND k.state < 5) ORDER BY t.trace_id LIMIT ?";
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
    rows.iter().map(|row| trace_row(&mut Columns::of(row, "traces"))).collect()
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
    parents_first(&rows, trace)
}

/// Tasks that are claimed or wait for children, parents before their children.
pub(super) async fn busy_tasks(tx: &mut SqliteTx<'_>, trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
    tx.params.id(trace);
    let rows = tx.fetch(BUSY_TASKS).await?;
    parents_first(&rows, trace)
}

/// So many of the others that have not ended.
pub(super) async fn idle_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
    tx.params.id(trace).int(limit);
    let rows = tx.fetch(IDLE_TASKS).await?;
    rows.iter().map(|row| task_row(&mut Columns::of(row, "tasks"))).collect()
}

/// Traces that are being cancelled and have such tasks.
pub(super) async fn unswept(tx: &mut SqliteTx<'_>, limit: u32) -> Result<Vec<TraceId>, StoreError> {
    tx.params.int(limit);
    let rows = tx.fetch(UNSWEPT).await?;
    rows.iter().map(|row| Columns::of(row, "traces").id()).collect()
}

fn parents_first(rows: &[SqliteRow], trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
    let mut tasks = Vec::with_capacity(rows.len());
    for row in rows {
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
    rows.iter().map(known_key).collect()
}

fn text_array(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("a list of texts is always JSON")
}
