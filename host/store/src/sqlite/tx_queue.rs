//! The queue inside a transaction, and what a claimed step is handed.

use std::collections::HashMap;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use tower_domain::clock::Timestamp;
use tower_domain::id::TaskId;
use tower_domain::step::Summary;
use tower_domain::task::{Leg, Status, TaskResult};

use super::results::{task_result, task_result_columns};
use super::rows::{Columns, id_array};
use super::statements;
use super::values::Rows;
use super::words::State;
use crate::StoreError;
use crate::apply::tx::{QueuePlace, QueueRow, StepInput, TaskRow};

static PUT: Rows = Rows::new(
    7,
    "INSERT INTO queue (task_id, place, priority, rank, due, lease_until, owner) SELECT * FROM",
    "WHERE column1 IS NOT NULL ON CONFLICT (task_id) DO UPDATE SET place = excluded.place, priority = excluded.priority, \
     rank = excluded.rank, due = excluded.due, lease_until = excluded.lease_until, owner = excluded.owner",
);

#[cfg(test)]
pub(super) static ROWS: &[(&str, &Rows)] = &[("PUT", &PUT)];

statements! {
    DELETE = "DELETE FROM queue WHERE task_id IN (SELECT unhex(value) FROM json_each(?1))";
    READY = "SELECT task_id, rank FROM queue WHERE place = 0 ORDER BY priority DESC, rank, task_id LIMIT ?1";
    DUE = "SELECT task_id FROM queue WHERE place = 1 AND due <= ?1 ORDER BY due LIMIT ?2";
    NEXT_DUE = "SELECT due FROM queue WHERE place = 1 ORDER BY due LIMIT 1";
    CLAIMED_BY = "SELECT task_id FROM queue WHERE place = 2 AND owner = ?1 LIMIT ?2";
    OVERDUE = "SELECT task_id FROM queue INDEXED BY queue_claimed WHERE place = 2 AND lease_until < ?1 LIMIT ?2";
    RENEW = "UPDATE queue SET lease_until = ?2 WHERE place = 2 AND owner = ?1";
    // One look at the head of each priority.
    SMALLEST_RANK = "SELECT min((SELECT q.rank FROM queue AS q WHERE q.place = 0 AND q.priority = p.value ORDER BY q.rank LIMIT 1)) \
         FROM json_each('[1,2,3,4,5,6,7,8,9,10]') AS p";
    INPUTS = "SELECT t.id, t.job_id, t.definition_version, t.timeout_sec, t.round_index, t.layer, t.depth, t.input_params, \
         t.carried, t.carried_ref, t.depends_on IS NOT NULL FROM json_each(?1) AS i CROSS JOIN tasks AS t ON t.id = unhex(i.value)";
    UPSTREAM = concat!(
        "SELECT w.id, ", task_result_columns!(), " FROM json_each(?1) AS i CROSS JOIN tasks AS w ON w.id = unhex(i.value) \
         CROSS JOIN json_each(w.depends_on) AS k \
         CROSS JOIN tasks AS t ON t.parent_id = w.parent_id AND t.round_index = w.round_index AND t.key = k.value ORDER BY i.id, k.id"
    );
    COUNT_CHILDREN = "SELECT t.parent_id, t.state, count(*) FROM json_each(?1) AS i CROSS JOIN tasks AS t ON t.parent_id = unhex(i.value) GROUP BY 1, 2";
    COUNT_DEPENDENCIES = "SELECT d.task_id, t.state, count(*) FROM json_each(?1) AS i CROSS JOIN task_deps AS d ON d.task_id = unhex(i.value) \
         CROSS JOIN tasks AS t ON t.id = d.depends_on GROUP BY 1, 2";
}

/// Puts rows, whether they are there or not.
pub(super) async fn put(conn: &mut SqliteConnection, rows: &[QueueRow]) -> Result<(), StoreError> {
    PUT.run(conn, rows, |_| (), |params, row| {
        let (place, due, until, owner) = match &row.place {
            QueuePlace::Ready => (0, None, None, None),
            QueuePlace::Due(at) => (1, Some(*at), None, None),
            QueuePlace::Claimed { owner, until } => (2, None, Some(*until), Some(owner.as_str())),
        };
        params.id(row.task_id).int(place).int(row.priority).uint(row.rank).opt_at(due).opt_at(until).opt_text(owner);
    })
    .await
}

/// Deletes rows.
pub(super) async fn delete(conn: &mut SqliteConnection, ids: &[TaskId]) -> Result<(), StoreError> {
    if !ids.is_empty() {
        sqlx::query(DELETE).bind(id_array(ids.iter().copied())).execute(conn).await?;
    }
    Ok(())
}

/// The first tasks that can be claimed, with their rank.
pub(super) async fn ready(conn: &mut SqliteConnection, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    let rows = sqlx::query(READY).bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "queue");
            Ok((columns.id()?, columns.uint()?))
        })
        .collect()
}

/// Waiting tasks that are due, the longest overdue first.
pub(super) async fn due(conn: &mut SqliteConnection, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    ids(sqlx::query(DUE).bind(now.as_micros()).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// When the next waiting task is due.
pub(super) async fn next_due(conn: &mut SqliteConnection) -> Result<Option<Timestamp>, StoreError> {
    let due: Option<i64> = sqlx::query_scalar(NEXT_DUE).fetch_optional(conn).await?;
    Ok(due.map(Timestamp::from_micros))
}

/// Claimed tasks of a host.
pub(super) async fn claimed_by(conn: &mut SqliteConnection, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    ids(sqlx::query(CLAIMED_BY).bind(host.to_owned()).bind(i64::from(limit)).fetch_all(conn).await?)
}

/// Claimed tasks whose lease is over.
pub(super) async fn overdue(conn: &mut SqliteConnection, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    ids(sqlx::query(OVERDUE).bind(now.as_micros()).bind(i64::from(limit)).fetch_all(conn).await?)
}

fn ids(rows: Vec<SqliteRow>) -> Result<Vec<TaskId>, StoreError> {
    rows.iter().map(|row| Columns::of(row, "queue").id()).collect()
}

/// Moves the leases of a host.
pub(super) async fn renew(conn: &mut SqliteConnection, host: &str, until: Timestamp) -> Result<(), StoreError> {
    sqlx::query(RENEW).bind(host.to_owned()).bind(until.as_micros()).execute(conn).await?;
    Ok(())
}

/// The smallest rank of those that can be claimed; 0 when there are none. Where virtual time begins.
pub(super) async fn smallest_rank(conn: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query(SMALLEST_RANK).fetch_one(conn).await?;
    let rank: Option<i64> = row.try_get(0)?;
    Ok(rank.and_then(|rank| u64::try_from(rank).ok()).unwrap_or(0))
}

/// What the steps of claimed tasks need.
pub(super) async fn step_inputs(conn: &mut SqliteConnection, tasks: &[TaskRow]) -> Result<Vec<StepInput>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut inputs = HashMap::with_capacity(tasks.len());
    let mut named = Vec::new();
    for row in &sqlx::query(INPUTS).bind(id_array(tasks.iter().map(|task| task.id))).fetch_all(&mut *conn).await? {
        let mut columns = Columns::of(row, "tasks");
        let input = StepInput {
            task_id: columns.id()?,
            definition_id: columns.name()?,
            definition_version: columns.uint()?,
            timeout_sec: columns.uint()?,
            round_index: columns.uint()?,
            layer: columns.uint()?,
            depth: columns.uint()?,
            params: columns.json()?,
            carried: columns.output()?,
            upstream: Vec::new(),
            summary: None,
        };
        if columns.flag()? {
            named.push(input.task_id);
        }
        inputs.insert(input.task_id, input);
    }
    for (task, result) in upstream(conn, &named).await? {
        if let Some(input) = inputs.get_mut(&task) {
            input.upstream.push(result);
        }
    }
    for (task, summary) in summaries(conn, tasks).await? {
        if let Some(input) = inputs.get_mut(&task) {
            input.summary = Some(summary);
        }
    }
    Ok(inputs.into_values().collect())
}

/// Results of the dependencies that tasks named, in the order in which they named them.
async fn upstream(conn: &mut SqliteConnection, tasks: &[TaskId]) -> Result<Vec<(TaskId, TaskResult)>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(UPSTREAM).bind(id_array(tasks.iter().copied())).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "tasks");
            Ok((columns.id()?, task_result(&mut columns)?))
        })
        .collect()
}

/// How many results there are to fold, for those tasks that fold.
async fn summaries(conn: &mut SqliteConnection, tasks: &[TaskRow]) -> Result<HashMap<TaskId, Summary>, StoreError> {
    let mut summaries = HashMap::new();
    let (mut of_children, mut of_dependencies) = (Vec::new(), Vec::new());
    for task in tasks {
        let children = task.state.children;
        match task.state.leg {
            // The counters tell all but how the others ended.
            Leg::Aggregate if children.succeeded == children.split => {
                summaries.insert(task.id, Summary { expected: children.split, succeeded: children.split, ..Summary::default() });
            }
            Leg::Aggregate => of_children.push(task.id),
            Leg::Run if task.actor_type.is_aggregator() => {
                summaries.insert(task.id, Summary::default());
                of_dependencies.push(task.id);
            }
            Leg::Run => {}
        }
    }
    for (statement, ids) in [(COUNT_CHILDREN, of_children), (COUNT_DEPENDENCIES, of_dependencies)] {
        if ids.is_empty() {
            continue;
        }
        for row in &sqlx::query(statement).bind(id_array(ids)).fetch_all(&mut *conn).await? {
            let mut columns = Columns::of(row, "tasks");
            let (task, State { status, .. }, count): (TaskId, State, u32) = (columns.id()?, columns.word()?, columns.uint()?);
            let summary = summaries.entry(task).or_default();
            summary.expected += count;
            match status {
                Status::Success => summary.succeeded += count,
                Status::Failed => summary.failed += count,
                Status::Cancelled => summary.cancelled += count,
                Status::Skipped => summary.skipped += count,
                Status::Pending | Status::Running => {}
            }
        }
    }
    Ok(summaries)
}
