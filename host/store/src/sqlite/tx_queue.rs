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
use super::tx::SqliteTx;
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
    DELETE = "DELETE FROM queue WHERE task_id IN (SELECT unhex(value) FROM json_each(?))";
    READY = "SELECT task_id, rank FROM queue WHERE place = 0 ORDER BY priority DESC, rank, task_id LIMIT ?";
    DUE = "SELECT task_id FROM queue WHERE place = 1 AND due <= ? ORDER BY due LIMIT ?";
    NEXT_DUE = "SELECT due FROM queue WHERE place = 1 ORDER BY due LIMIT 1";
    CLAIMED_BY = "SELECT task_id FROM queue WHERE place = 2 AND owner = ? LIMIT ?";
    OVERDUE = "SELECT task_id, owner FROM queue INDEXED BY queue_claimed WHERE place = 2 AND lease_until < ? LIMIT ?";
    RENEW = "UPDATE queue SET lease_until = ? WHERE place = 2 AND owner = ? AND task_id IN (SELECT unhex(i.value) FROM json_each(?) AS i)";
    // What was claimed last tells how far it had come; else one look at the head of each priority.
    VIRTUAL_TIME = "SELECT coalesce((SELECT max(c.rank) FROM queue AS c INDEXED BY queue_claimed WHERE c.place = 2), \
         (SELECT min((SELECT q.rank FROM queue AS q WHERE q.place = 0 AND q.priority = p.value ORDER BY q.rank LIMIT 1)) \
         FROM json_each('[1,2,3,4,5,6,7,8,9,10]') AS p))";
    INPUTS = "SELECT t.id, t.job_id, t.definition_version, t.timeout_sec, t.layer, t.depth, t.input_params, \
         t.carried, t.carried_ref, t.depends_on IS NOT NULL FROM json_each(?) AS i CROSS JOIN tasks AS t ON t.id = unhex(i.value)";
    UPSTREAM = concat!(
        "SELECT w.id, ", task_result_columns!(), " FROM json_each(?) AS i CROSS JOIN tasks AS w ON w.id = unhex(i.value) \
         CROSS JOIN json_each(w.depends_on) AS k \
         CROSS JOIN tasks AS t ON t.parent_id = w.parent_id AND t.round_index = w.round_index AND t.key = k.value ORDER BY i.id, k.id"
    );
    COUNT_CHILDREN = "SELECT t.parent_id, t.state, count(*) FROM json_each(?) AS i CROSS JOIN tasks AS p ON p.id = unhex(i.value) \
         CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index GROUP BY 1, 2";
    COUNT_DEPENDENCIES = "SELECT d.task_id, t.state, count(*) FROM json_each(?) AS i CROSS JOIN task_deps AS d ON d.task_id = unhex(i.value) \
         CROSS JOIN tasks AS t ON t.id = d.depends_on GROUP BY 1, 2";
}

/// Puts rows, whether they are there or not.
pub(super) async fn put(tx: &mut SqliteTx<'_>, rows: &[QueueRow]) -> Result<(), StoreError> {
    tx.nothing_waits &= !rows.iter().any(|row| matches!(row.place, QueuePlace::Due(_)));
    PUT.run(
        tx,
        rows,
        |_| (),
        |params, row| {
            let (place, due, until, owner) = match &row.place {
                QueuePlace::Ready => (0, None, None, None),
                QueuePlace::Due(at) => (1, Some(*at), None, None),
                QueuePlace::Claimed { owner, until } => (2, None, Some(*until), Some(owner.as_str())),
            };
            params.id(row.task_id).int(place).int(row.priority).uint(row.rank).opt_at(due).opt_at(until).opt_text(owner);
        },
    )
    .await
}

/// Deletes rows.
pub(super) fn delete(tx: &mut SqliteTx<'_>, ids: &[TaskId]) {
    if !ids.is_empty() {
        tx.params.ids(ids);
        tx.stage(DELETE);
    }
}

/// The first tasks that can be claimed, with their rank.
pub(super) async fn ready(tx: &mut SqliteTx<'_>, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    tx.params.int(limit);
    let rows = tx.fetch(READY).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "queue");
            Ok((columns.id()?, columns.uint()?))
        })
        .collect()
}

/// Waiting tasks that are due, the longest overdue first.
pub(super) async fn due(tx: &mut SqliteTx<'_>, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    if tx.nothing_waits {
        return Ok(Vec::new());
    }
    tx.params.at(now).int(limit);
    ids(tx.fetch(DUE).await?)
}

/// When the next waiting task is due.
pub(super) async fn next_due(tx: &mut SqliteTx<'_>) -> Result<Option<Timestamp>, StoreError> {
    if tx.nothing_waits {
        return Ok(None);
    }
    let rows = tx.fetch(NEXT_DUE).await?;
    tx.nothing_waits = rows.is_empty();
    rows.first().map(|row| Columns::of(row, "queue").at()).transpose()
}

/// Claimed tasks of a host.
pub(super) async fn claimed_by(tx: &mut SqliteTx<'_>, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    tx.params.text(host).int(limit);
    ids(tx.fetch(CLAIMED_BY).await?)
}

/// Claimed tasks whose lease is over, each with the host that held it.
pub(super) async fn overdue(tx: &mut SqliteTx<'_>, now: Timestamp, limit: u32) -> Result<Vec<(TaskId, String)>, StoreError> {
    tx.params.at(now).int(limit);
    let rows = tx.fetch(OVERDUE).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "queue");
            Ok((columns.id()?, columns.text()?))
        })
        .collect()
}

fn ids(rows: Vec<SqliteRow>) -> Result<Vec<TaskId>, StoreError> {
    rows.iter().map(|row| Columns::of(row, "queue").id()).collect()
}

/// Moves the leases of a host.
pub(super) fn renew(tx: &mut SqliteTx<'_>, host: &str, ids: &[TaskId], until: Timestamp) {
    if ids.is_empty() {
        return;
    }
    tx.params.at(until).text(host).ids(ids);
    tx.stage(RENEW);
}

/// Where virtual time goes on: no trace of an earlier life may stand far behind the new ones, nor before them all.
pub(super) async fn virtual_time(conn: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query(VIRTUAL_TIME).fetch_one(conn).await?;
    let rank: Option<i64> = row.try_get(0)?;
    Ok(rank.and_then(|rank| u64::try_from(rank).ok()).unwrap_or(0))
}

/// What the steps of claimed tasks need.
pub(super) async fn step_inputs(tx: &mut SqliteTx<'_>, tasks: &[TaskRow]) -> Result<Vec<StepInput>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut inputs = HashMap::with_capacity(tasks.len());
    let mut named = Vec::new();
    tx.params.text(id_array(tasks.iter().map(|task| task.id)));
    for row in &tx.fetch(INPUTS).await? {
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
        if columns.flag()? {
            named.push(input.task_id);
        }
        inputs.insert(input.task_id, input);
    }
    for (task, result) in upstream(tx, &named).await? {
        if let Some(input) = inputs.get_mut(&task) {
            input.upstream.push(result);
        }
    }
    for (task, summary) in summaries(tx, tasks).await? {
        if let Some(input) = inputs.get_mut(&task) {
            input.summary = Some(summary);
        }
    }
    Ok(inputs.into_values().collect())
}

/// Results of the dependencies that tasks named, in the order in which they named them.
async fn upstream(tx: &mut SqliteTx<'_>, tasks: &[TaskId]) -> Result<Vec<(TaskId, TaskResult)>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    tx.params.ids(tasks);
    let rows = tx.fetch(UPSTREAM).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "tasks");
            Ok((columns.id()?, task_result(&mut columns)?))
        })
        .collect()
}

/// How many results there are to fold, for those tasks that fold.
async fn summaries(tx: &mut SqliteTx<'_>, tasks: &[TaskRow]) -> Result<HashMap<TaskId, Summary>, StoreError> {
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
        tx.params.ids(&ids);
        for row in &tx.fetch(statement).await? {
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
