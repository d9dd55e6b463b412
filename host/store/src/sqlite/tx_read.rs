//! What a transaction reads to decide: sets of rows by sets of ids.

use std::collections::{HashMap, HashSet};

use rusqlite::Row;
use sqlx::SqliteConnection;
use tower_domain::clock::Timestamp;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};

use super::rows::{Bind, Columns, Id};
use super::statements;
use super::tx::SqliteTx;
use crate::StoreError;
use crate::apply::tx::{KnownKey, OldTask, TaskRow, TraceRow};
use crate::rows::nouns::{self, event_columns};
use crate::rows::work::{known_key, old_task, old_task_columns, task_row, task_row_columns, trace_row, trace_row_columns};

statements! {
    TASKS = concat!("SELECT ", task_row_columns!(), " FROM tasks AS t WHERE t.id = ?");
    TRACES = concat!("SELECT ", trace_row_columns!(), " FROM traces AS t WHERE t.trace_id = ?");
    // Whatever changes a trace leaves an event.
    CHANGED_AT = "SELECT e.at FROM events AS e WHERE e.trace_id = ? ORDER BY e.seq DESC LIMIT 1";
    NEWEST = "SELECT max(t.id) FROM tasks AS t";
    DEPENDENTS = "SELECT d.depends_on, d.task_id FROM task_deps AS d WHERE d.depends_on = ?";
    DEPENDENTS_BETWEEN = "SELECT d.depends_on, d.task_id FROM task_deps AS d WHERE d.depends_on BETWEEN ? AND ? LIMIT ?";
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
    OLD_DEPENDENCIES = "SELECT d.task_id, d.depends_on FROM task_deps AS d WHERE d.task_id = ?";
    KNOWN_EVENTS = concat!(
        "SELECT ", event_columns!(), " FROM json_each(?) AS i CROSS JOIN events AS e ON e.event_id = i.value CROSS JOIN tasks AS t ON t.id = e.task_id"
    );
    KNOWN_KEYS = "SELECT k.key, k.fingerprint, k.trace_id, k.root_task_id \
         FROM json_each(?) AS i CROSS JOIN idempotency_keys AS k ON k.key = i.value WHERE k.created_at >= ?";
}

/// When the newest task was made, by its id: the clock of an earlier life may have been ahead of that of this one.
pub(super) async fn newest(conn: &mut SqliteConnection) -> Result<Timestamp, StoreError> {
    let row = sqlx::query(NEWEST).fetch_one(conn).await?;
    let id: Option<TaskId> = Columns::of(&row, "tasks").opt_id()?;
    Ok(Timestamp::from_micros(id.map_or(0, |id| i64::try_from(id.0.timestamp_ms()).unwrap_or(0) * 1_000)))
}

/// Rows of tasks, those that exist.
pub(super) fn tasks(tx: &mut SqliteTx<'_>, ids: &[TaskId]) -> Result<Vec<TaskRow>, StoreError> {
    let (mut found, mut unknown) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        match tx.claimed.get(id) {
            Some(row) => found.push(row.clone()),
            None => unknown.push(*id),
        }
    }
    found.extend(tx.query_each(TASKS, &unknown, task)?);
    Ok(found)
}

/// Rows of traces, those that exist.
pub(super) fn traces(tx: &mut SqliteTx<'_>, ids: &[TraceId]) -> Result<Vec<TraceRow>, StoreError> {
    let mut traces = tx.query_each(TRACES, ids, |row| trace_row(&mut Columns::of(row, "traces")))?;
    if tx.is_set_back {
        for trace in &mut traces {
            trace.changed_at = tx.query_each(CHANGED_AT, &[trace.trace_id], |row| Columns::of(row, "events").at())?.pop();
        }
    }
    Ok(traces)
}

/// Pairs (dependency, dependent).
pub(super) fn dependents(tx: &mut SqliteTx<'_>, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else { return Ok(Vec::new()) };
    // Tasks that end together were made together, most of them with no dependent or one: one look from the first to the last finds them. Where
    // too much of others lies between, or too many wait, each is looked for.
    let limit = 2 * ids.len() + 16;
    let mut pairs = tx.query(
        DEPENDENTS_BETWEEN,
        |params| {
            params.id(*first).id(*last).uint(limit as u64);
        },
        pair,
    )?;
    if pairs.len() < limit {
        let wanted: HashSet<&TaskId> = ids.iter().collect();
        pairs.retain(|(dependency, _)| wanted.contains(dependency));
        return Ok(pairs);
    }
    tx.query_each(DEPENDENTS, ids, pair)
}

fn pair(row: &Row<'_>) -> Result<(TaskId, TaskId), StoreError> {
    let mut columns = Columns::of(row, "task_deps");
    Ok((columns.id()?, columns.id()?))
}

/// Children of a task.
pub(super) fn children(tx: &mut SqliteTx<'_>, parent: TaskId) -> Result<Vec<TaskRow>, StoreError> {
    tx.query(
        CHILDREN,
        |params| {
            params.id(parent);
        },
        task,
    )
}

/// Tasks that have not ended, parents before their children.
pub(super) fn open_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, subtree: Option<TaskId>) -> Result<Vec<TaskRow>, StoreError> {
    match subtree {
        Some(task) => parents_first(tx, OPEN_TASKS_BELOW, task, trace),
        None => parents_first(tx, OPEN_TASKS, trace, trace),
    }
}

/// Tasks that are claimed or wait for children, parents before their children.
pub(super) fn busy_tasks(tx: &mut SqliteTx<'_>, trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
    parents_first(tx, BUSY_TASKS, trace, trace)
}

/// So many of the others that have not ended.
pub(super) fn idle_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
    tx.query(
        IDLE_TASKS,
        |params| {
            params.id(trace).int(limit);
        },
        task,
    )
}

/// Traces that are being cancelled and have such tasks.
pub(super) fn unswept(tx: &mut SqliteTx<'_>, limit: u32) -> Result<Vec<TraceId>, StoreError> {
    tx.query(
        UNSWEPT,
        |params| {
            params.int(limit);
        },
        |row| Columns::of(row, "traces").id(),
    )
}

/// Tasks of this trace out of the answer to a statement about `of`, which ends with their depth.
fn parents_first(tx: &mut SqliteTx<'_>, statement: &str, of: impl Id, trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
    let mut tasks: Vec<(u32, TaskRow)> = tx.query(
        statement,
        |params| {
            params.id(of);
        },
        |row| {
            let mut columns = Columns::of(row, "tasks");
            let task = task_row(&mut columns)?;
            Ok((columns.uint()?, task))
        },
    )?;
    tasks.retain(|(_, task)| task.trace_id == trace);
    tasks.sort_unstable_by_key(|(depth, task)| (*depth, task.id));
    Ok(tasks.into_iter().map(|(_, task)| task).collect())
}

fn task(row: &Row<'_>) -> Result<TaskRow, StoreError> {
    task_row(&mut Columns::of(row, "tasks"))
}

/// Tasks of an ended trace that did not succeed, one more, and everything above them.
pub(super) fn spoilt_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, and: Option<TaskId>) -> Result<Vec<TaskId>, StoreError> {
    tx.query(
        SPOILT,
        |params| {
            params.id(trace).opt_id(and).id(trace);
        },
        |row| Columns::of(row, "tasks").id(),
    )
}

/// Tasks of an ended trace, in the order in which they were made.
pub(super) fn old_tasks(tx: &mut SqliteTx<'_>, trace: TraceId, parents: Option<&[TaskId]>) -> Result<Vec<OldTask>, StoreError> {
    let mut tasks = match parents {
        None => tx.query(
            OLD_ROOT,
            |params| {
                params.id(trace);
            },
            |row| old_task(row),
        )?,
        Some([]) => return Ok(Vec::new()),
        Some(parents) => tx.query(
            OLD_CHILDREN,
            |params| {
                params.ids(parents);
            },
            |row| old_task(row),
        )?,
    };
    tasks.retain(|old| old.task.row.trace_id == trace);
    tasks.sort_unstable_by_key(|old| old.task.row.id);
    let ids: Vec<TaskId> = tasks.iter().map(|old| old.task.row.id).collect();
    let mut on: HashMap<TaskId, Vec<TaskId>> = HashMap::new();
    for (task, dependency) in tx.query_each(OLD_DEPENDENCIES, &ids, pair)? {
        on.entry(task).or_default().push(dependency);
    }
    for old in &mut tasks {
        old.depends_on_ids = on.remove(&old.task.row.id).unwrap_or_default();
    }
    Ok(tasks)
}

/// Outside events that are known.
pub(super) fn known_events(tx: &mut SqliteTx<'_>, ids: &[String]) -> Result<Vec<TaskEvent>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        KNOWN_EVENTS,
        |params| {
            params.text(text_array(ids));
        },
        |row| nouns::event(row),
    )
}

/// Keys that are known and not older than an instant.
pub(super) fn known_keys(tx: &mut SqliteTx<'_>, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        KNOWN_KEYS,
        |params| {
            params.text(text_array(keys)).at(not_before);
        },
        |row| known_key(row),
    )
}

fn text_array(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("a list of texts is always JSON")
}
