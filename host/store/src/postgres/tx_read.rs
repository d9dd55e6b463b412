//! What a transaction reads to decide: sets of rows by sets of ids.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use tower_domain::clock::Timestamp;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::name::Name;

use super::rows::{Array, Bind, Columns, Params};
use super::statements;
use super::tx::PgTx;
use crate::StoreError;
use crate::apply::tx::{KnownKey, OldTask, TaskRow, TraceRow};
use crate::rows::nouns::{self, event_columns};
use crate::rows::work::{known_key, old_task, old_task_columns, task_row, task_row_columns, trace_row, trace_row_columns};

/// What the database's clock says.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

statements! {
    NOW = concat!("SELECT ", now!());
    LAST_TRACES = "SELECT s.last_trace_id FROM schedules AS s WHERE s.definition_id = ANY($1) AND s.last_trace_id IS NOT NULL";
    // Always in the order of ids, so that two who lock several never wait for each other. The clock is read once a row has its lock, so that
    // what happens to a trace happens in order; the last row has the latest.
    LOCK = concat!(
        "WITH t AS MATERIALIZED (SELECT l.* FROM traces AS l \
             WHERE l.trace_id = ANY($1 || ARRAY(SELECT k.trace_id FROM tasks AS k WHERE k.id = ANY($2))) ORDER BY l.trace_id FOR UPDATE) \
         SELECT ", trace_row_columns!(), ", t.changed_at, ", now!(), " FROM t"
    );
    TRACES = concat!("SELECT ", trace_row_columns!(), ", t.changed_at FROM traces AS t WHERE t.trace_id = ANY($1) ORDER BY t.trace_id FOR UPDATE");
    TASKS = concat!("SELECT ", task_row_columns!(), " FROM tasks AS t WHERE t.id = ANY($1)");
    DEPENDENTS = "SELECT d.depends_on, d.task_id FROM task_deps AS d WHERE d.depends_on = ANY($1)";
    // Of its present round; so for all that reads children to go on with a task.
    CHILDREN = concat!(
        "SELECT ", task_row_columns!(), " FROM tasks AS p JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index \
         WHERE p.id = $1 ORDER BY t.id"
    );
    // 0 to 7 are the states of tasks that have not ended.
    OPEN_TASKS = concat!("SELECT ", task_row_columns!(), ", t.depth FROM tasks AS t WHERE t.trace_id = $1 AND t.state < 8");
    // 5 to 7: claimed, or waiting for children.
    BUSY_TASKS = concat!("SELECT ", task_row_columns!(), ", t.depth FROM tasks AS t WHERE t.trace_id = $1 AND t.state BETWEEN 5 AND 7");
    IDLE_TASKS = concat!("SELECT ", task_row_columns!(), " FROM tasks AS t WHERE t.trace_id = $1 AND t.state < 5 ORDER BY t.state, t.layer, t.id LIMIT $2");
    UNSWEPT = "SELECT t.trace_id FROM traces AS t WHERE t.cancelling = 1 AND t.finished_at IS NULL \
         AND EXISTS (SELECT 1 FROM tasks AS k WHERE k.trace_id = t.trace_id AND k.state < 5) ORDER BY t.trace_id LIMIT $1";
    // Nothing is open below a task that has ended.
    OPEN_TASKS_BELOW = concat!(
        "WITH RECURSIVE below (id) AS (SELECT $1 UNION ALL \
             SELECT c.id FROM below JOIN tasks AS c ON c.parent_id = below.id WHERE c.state < 8) \
         SELECT ", task_row_columns!(), ", t.depth FROM below JOIN tasks AS t ON t.id = below.id WHERE t.state < 8"
    );
    // OFFSET 0: the task is looked up by its id, and then compared.
    SPOILT = "WITH RECURSIVE spoilt (id) AS ( \
             (SELECT t.id FROM tasks AS t WHERE t.trace_id = $1 AND t.state BETWEEN 10 AND 13 \
              UNION ALL SELECT f.id FROM (SELECT t.id, t.trace_id FROM tasks AS t WHERE t.id = $2 OFFSET 0) AS f WHERE f.trace_id = $1) \
             UNION SELECT p.parent_id FROM spoilt AS s JOIN tasks AS p ON p.id = s.id) SELECT s.id FROM spoilt AS s WHERE s.id IS NOT NULL";
    OLD_ROOT = concat!("SELECT ", task_row_columns!(), ", ", old_task_columns!(), " FROM tasks AS t WHERE t.trace_id = $1 AND t.parent_id IS NULL");
    OLD_CHILDREN = concat!(
        "SELECT ", task_row_columns!(), ", ", old_task_columns!(),
        " FROM tasks AS p JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index WHERE p.id = ANY($1)"
    );
    OLD_DEPENDENCIES = "SELECT d.task_id, d.depends_on FROM task_deps AS d WHERE d.task_id = ANY($1)";
    KNOWN_EVENTS = concat!("SELECT ", event_columns!(), " FROM events AS e JOIN tasks AS t ON t.id = e.task_id WHERE e.event_id = ANY($1)");
    KNOWN_KEYS = "SELECT k.key, k.fingerprint, k.trace_id, k.root_task_id FROM idempotency_keys AS k WHERE k.key = ANY($1) AND k.created_at >= $2";
}

/// What the database's clock says.
pub(super) async fn clock(conn: &mut PgConnection) -> Result<Timestamp, StoreError> {
    let row = sqlx::query(NOW).fetch_one(conn).await?;
    Columns::of(&row, "the clock").at()
}

/// Locks the traces that a batch is about, before anything of them is read. Answers what the database's clock says then.
pub(super) async fn lock(tx: &mut PgTx, tasks: &[TaskId], traces: &[TraceId], schedules: &[Name]) -> Result<Option<Timestamp>, StoreError> {
    let mut traces = traces.to_vec();
    if !schedules.is_empty() {
        // A look without a lock: whoever has fired meanwhile is noticed by the schedule's revision.
        let mut params = Params::new();
        params.array(Array::texts(schedules.iter().map(Name::as_str)));
        for row in &tx.fetch(LAST_TRACES, params).await? {
            traces.push(Columns::of(row, "schedules").id()?);
        }
    }
    let mut now = None;
    if !tasks.is_empty() || !traces.is_empty() {
        let mut params = Params::new();
        params.ids(&traces).ids(tasks);
        for row in &tx.fetch(LOCK, params).await? {
            now = Some(keep(tx, row)?.at()?);
        }
    }
    match now {
        None if tx.has_own_time => {
            let rows = tx.fetch(NOW, Params::new()).await?;
            rows.first().map(|row| Columns::of(row, "the clock").at()).transpose()
        }
        now => Ok(now),
    }
}

/// Keeps the row of a trace that was locked. Answers what else there is of it.
fn keep<'r>(tx: &mut PgTx, row: &'r PgRow) -> Result<Columns<'r, PgRow>, StoreError> {
    let mut columns = Columns::of(row, "traces");
    let mut trace = trace_row(&mut columns)?;
    trace.changed_at = columns.opt_at()?;
    tx.locked.insert(trace.trace_id);
    tx.traces.insert(trace.trace_id, trace);
    Ok(columns)
}

/// Locks traces and keeps their rows.
async fn lock_more(tx: &mut PgTx, ids: &[TraceId]) -> Result<(), StoreError> {
    let mut params = Params::new();
    params.ids(ids);
    for row in &tx.fetch(TRACES, params).await? {
        keep(tx, row)?;
    }
    Ok(())
}

/// Rows of tasks, those that exist, with their traces locked.
pub(super) async fn tasks(tx: &mut PgTx, ids: &[TaskId]) -> Result<Vec<TaskRow>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    loop {
        let mut params = Params::new();
        params.ids(ids);
        let rows: Vec<TaskRow> = tx.fetch(TASKS, params).await?.iter().map(|row| task_row(&mut Columns::of(row, "tasks"))).collect::<Result<_, _>>()?;
        let mut free: Vec<TraceId> = rows.iter().map(|row| row.trace_id).filter(|trace| !tx.locked.contains(trace)).collect();
        if free.is_empty() {
            return Ok(rows);
        }
        free.sort_unstable();
        free.dedup();
        // What was read before the lock may have changed since: once more.
        lock_more(tx, &free).await?;
        // A task without a trace is for the invariants.
        tx.locked.extend(free);
    }
}

/// Rows of traces, those that exist, locked.
pub(super) async fn traces(tx: &mut PgTx, ids: &[TraceId]) -> Result<Vec<TraceRow>, StoreError> {
    let unread: Vec<TraceId> = ids.iter().filter(|id| !tx.traces.contains_key(id)).copied().collect();
    if !unread.is_empty() {
        lock_more(tx, &unread).await?;
    }
    Ok(ids.iter().filter_map(|id| tx.traces.remove(id)).collect())
}

/// Pairs (dependency, dependent).
pub(super) async fn dependents(tx: &mut PgTx, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
    pairs(tx, DEPENDENTS, ids).await
}

async fn pairs(tx: &mut PgTx, statement: &'static str, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = Params::new();
    params.ids(ids);
    let rows = tx.fetch(statement, params).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "task_deps");
            Ok((columns.id()?, columns.id()?))
        })
        .collect()
}

/// Children of a task.
pub(super) async fn children(tx: &mut PgTx, parent: TaskId) -> Result<Vec<TaskRow>, StoreError> {
    let mut params = Params::new();
    params.id(parent);
    let rows = tx.fetch(CHILDREN, params).await?;
    rows.iter().map(|row| task_row(&mut Columns::of(row, "tasks"))).collect()
}

/// Tasks that have not ended, parents before their children.
pub(super) async fn open_tasks(tx: &mut PgTx, trace: TraceId, subtree: Option<TaskId>) -> Result<Vec<TaskRow>, StoreError> {
    let mut params = Params::new();
    let rows = match subtree {
        Some(task) => {
            params.id(task);
            tx.fetch(OPEN_TASKS_BELOW, params).await?
        }
        None => {
            params.id(trace);
            tx.fetch(OPEN_TASKS, params).await?
        }
    };
    parents_first(&rows, trace)
}

/// Tasks that are claimed or wait for children, parents before their children.
pub(super) async fn busy_tasks(tx: &mut PgTx, trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
    let mut params = Params::new();
    params.id(trace);
    let rows = tx.fetch(BUSY_TASKS, params).await?;
    parents_first(&rows, trace)
}

/// So many of the others that have not ended.
pub(super) async fn idle_tasks(tx: &mut PgTx, trace: TraceId, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
    let mut params = Params::new();
    params.id(trace).int(limit);
    let rows = tx.fetch(IDLE_TASKS, params).await?;
    rows.iter().map(|row| task_row(&mut Columns::of(row, "tasks"))).collect()
}

/// Traces that are being cancelled and have such tasks.
pub(super) async fn unswept(tx: &mut PgTx, limit: u32) -> Result<Vec<TraceId>, StoreError> {
    let mut params = Params::new();
    params.int(limit);
    let rows = tx.fetch(UNSWEPT, params).await?;
    rows.iter().map(|row| Columns::of(row, "traces").id()).collect()
}

fn parents_first(rows: &[PgRow], trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
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
pub(super) async fn spoilt_tasks(tx: &mut PgTx, trace: TraceId, and: Option<TaskId>) -> Result<Vec<TaskId>, StoreError> {
    let mut params = Params::new();
    params.id(trace).opt_id(and);
    let rows = tx.fetch(SPOILT, params).await?;
    rows.iter().map(|row| Columns::of(row, "tasks").id()).collect()
}

/// Tasks of an ended trace, in the order in which they were made.
pub(super) async fn old_tasks(tx: &mut PgTx, trace: TraceId, parents: Option<&[TaskId]>) -> Result<Vec<OldTask>, StoreError> {
    let mut params = Params::new();
    let rows = match parents {
        None => {
            params.id(trace);
            tx.fetch(OLD_ROOT, params).await?
        }
        Some([]) => return Ok(Vec::new()),
        Some(parents) => {
            params.ids(parents);
            tx.fetch(OLD_CHILDREN, params).await?
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
pub(super) async fn known_events(tx: &mut PgTx, ids: &[String]) -> Result<Vec<TaskEvent>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = Params::new();
    params.array(Array::texts(ids.iter().map(String::as_str)));
    let rows = tx.fetch(KNOWN_EVENTS, params).await?;
    rows.iter().map(nouns::event).collect()
}

/// Keys that are known and not older than an instant.
pub(super) async fn known_keys(tx: &mut PgTx, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    tx.keys_not_before = not_before;
    let mut params = Params::new();
    params.array(Array::texts(keys.iter().map(String::as_str))).at(not_before);
    let rows = tx.fetch(KNOWN_KEYS, params).await?;
    rows.iter().map(known_key).collect()
}
