//! The queue inside a transaction, and what a claimed step is handed.

use std::collections::HashMap;

use rusqlite::Row;
use sqlx::{Row as _, SqliteConnection};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::Control;
use tower_domain::id::TaskId;
use tower_domain::task::TaskResult;

use super::rows::{Bind, Columns, Params};
use super::statements;
use super::tx::SqliteTx;
use crate::StoreError;
use crate::apply::tx::{QueuePlace, QueueRow, StepInput, TaskRow};
use crate::read::{LaneUse, WAITING_MAX};
use crate::rows::nouns::{task_result, task_result_columns};
use crate::rows::work::{Summaries, bind_queue, held_task, lane_use, step_input, step_input_columns};

statements! {
    PUT = "INSERT INTO queue (task_id, place, priority, rank, due, lease_until, owner, gate, lane) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (task_id) DO UPDATE SET place = excluded.place, priority = excluded.priority, rank = excluded.rank, due = excluded.due, \
         lease_until = excluded.lease_until, owner = excluded.owner, gate = excluded.gate, lane = excluded.lane";
    DELETE = "DELETE FROM queue WHERE task_id = ?";
    READY = "SELECT task_id, rank FROM queue WHERE place = 0 ORDER BY priority DESC, rank, task_id LIMIT ?";
    // The head of each priority is read, and of those what comes first.
    FAIR = "SELECT q.task_id, q.rank FROM json_each('[1,2,3,4,5,6,7,8,9,10]') AS p CROSS JOIN queue AS q ON q.task_id IN ( \
             SELECT h.task_id FROM queue AS h WHERE h.place = 0 AND h.priority = p.value ORDER BY h.rank, h.task_id LIMIT ?) \
         ORDER BY q.rank, q.task_id LIMIT ?";
    READY_IN = "SELECT task_id, rank FROM queue WHERE place = 4 AND lane = ? ORDER BY priority DESC, rank, task_id LIMIT ?";
    FAIR_IN = "SELECT q.task_id, q.rank FROM json_each('[1,2,3,4,5,6,7,8,9,10]') AS p CROSS JOIN queue AS q ON q.task_id IN ( \
             SELECT h.task_id FROM queue AS h WHERE h.place = 4 AND h.lane = ? AND h.priority = p.value ORDER BY h.rank, h.task_id LIMIT ?) \
         ORDER BY q.rank, q.task_id LIMIT ?";
    // One look for each lane, however many wait in it.
    LANES = "WITH RECURSIVE l (lane) AS (SELECT min(f.lane) FROM queue AS f WHERE f.place = 4 \
             UNION ALL SELECT (SELECT min(q.lane) FROM queue AS q WHERE q.place = 4 AND q.lane > l.lane) FROM l WHERE l.lane IS NOT NULL) \
         SELECT * FROM (SELECT NULL AS lane, (SELECT count(*) FROM (SELECT 1 FROM queue AS r WHERE r.place = 0 LIMIT ?1) AS w) AS ready \
             UNION ALL SELECT l.lane, (SELECT count(*) FROM (SELECT 1 FROM queue AS r WHERE r.place = 4 AND r.lane = l.lane LIMIT ?1) AS w) \
             FROM l WHERE l.lane IS NOT NULL) AS u LIMIT 1000";
    DUE = "SELECT task_id FROM queue WHERE place = 1 AND due <= ? ORDER BY due LIMIT ?";
    NEXT_DUE = "SELECT due FROM (SELECT due FROM queue WHERE place = 1 ORDER BY due LIMIT 1) \
         UNION ALL SELECT opens_at FROM (SELECT opens_at FROM gates WHERE opens_at IS NOT NULL ORDER BY opens_at LIMIT 1)";
    CLAIMED_BY = "SELECT task_id FROM queue WHERE place = 2 AND owner = ? LIMIT ?";
    OVERDUE = "SELECT task_id, owner FROM queue INDEXED BY queue_claimed WHERE place = 2 AND lease_until < ? LIMIT ?";
    RENEW = "UPDATE queue SET lease_until = ? WHERE place = 2 AND owner = ? AND task_id IN (SELECT unhex(i.value) FROM json_each(?) AS i)";
    // 2 is CANCEL.
    HELD = "SELECT t.id, t.cancelling, t.paused, CASE WHEN t.cancelling THEN ( \
             SELECT c.reason FROM control_events AS c WHERE c.trace_id = t.trace_id AND c.action = 2 ORDER BY c.id DESC LIMIT 1) END \
         FROM json_each(?) AS i CROSS JOIN queue AS q ON q.task_id = unhex(i.value) CROSS JOIN tasks AS t ON t.id = q.task_id \
         WHERE q.place = 2 AND q.owner = ?";
    // What was claimed last tells how far it had come; else one look at the head of each priority.
    VIRTUAL_TIME = "SELECT coalesce((SELECT max(c.rank) FROM queue AS c INDEXED BY queue_claimed WHERE c.place = 2), \
         (SELECT min((SELECT q.rank FROM queue AS q WHERE q.place = 0 AND q.priority = p.value ORDER BY q.rank LIMIT 1)) \
         FROM json_each('[1,2,3,4,5,6,7,8,9,10]') AS p))";
    INPUTS = concat!("SELECT ", step_input_columns!(), " FROM tasks AS t WHERE t.id = ?");
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
pub(super) fn put(tx: &mut SqliteTx<'_>, rows: &[QueueRow]) -> Result<(), StoreError> {
    tx.nothing_waits &= !rows.iter().any(|row| matches!(row.place, QueuePlace::Due(_)));
    tx.execute_each(PUT, rows, |params, row| bind_queue(params, row))
}

/// Deletes rows.
pub(super) fn delete(tx: &mut SqliteTx<'_>, ids: &[TaskId]) -> Result<(), StoreError> {
    tx.execute_each(DELETE, ids, |params, id| {
        params.id(*id);
    })
}

/// The first tasks that can be claimed, with their rank.
pub(super) fn ready(tx: &mut SqliteTx<'_>, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    tx.query(
        READY,
        |params| {
            params.int(limit);
        },
        ranked,
    )
}

/// The first tasks that can be claimed, whatever their priority.
pub(super) fn fair(tx: &mut SqliteTx<'_>, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    tx.query(
        FAIR,
        |params| {
            params.int(limit).int(limit);
        },
        ranked,
    )
}

/// The first tasks of a lane that can be claimed, with their rank.
pub(super) fn ready_in(tx: &mut SqliteTx<'_>, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    tx.query(
        READY_IN,
        |params| {
            params.text(lane.to_string()).int(limit);
        },
        ranked,
    )
}

/// The first tasks of a lane that can be claimed, whatever their priority.
pub(super) fn fair_in(tx: &mut SqliteTx<'_>, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    tx.query(
        FAIR_IN,
        |params| {
            params.text(lane.to_string()).int(limit).int(limit);
        },
        ranked,
    )
}

fn ranked(row: &Row<'_>) -> Result<(TaskId, u64), StoreError> {
    let mut columns = Columns::of(row, "queue");
    Ok((columns.id()?, columns.uint()?))
}

fn id(row: &Row<'_>) -> Result<TaskId, StoreError> {
    Columns::of(row, "queue").id()
}

/// Waiting tasks that are due, the longest overdue first.
pub(super) fn due(tx: &mut SqliteTx<'_>, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    if tx.nothing_waits {
        return Ok(Vec::new());
    }
    tx.query(
        DUE,
        |params| {
            params.at(now).int(limit);
        },
        id,
    )
}

/// When the next waiting task is due, or the next gate opens.
pub(super) fn next_due(tx: &mut SqliteTx<'_>) -> Result<Option<Timestamp>, StoreError> {
    if tx.nothing_waits {
        return Ok(None);
    }
    let instants = tx.query(NEXT_DUE, |_| (), |row| Columns::of(row, "queue").at())?;
    tx.nothing_waits = instants.is_empty();
    Ok(instants.into_iter().min())
}

/// Claimed tasks of a host.
pub(super) fn claimed_by(tx: &mut SqliteTx<'_>, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    tx.query(
        CLAIMED_BY,
        |params| {
            params.text(host).int(limit);
        },
        id,
    )
}

/// Claimed tasks whose lease is over, each with the host that held it.
pub(super) fn overdue(tx: &mut SqliteTx<'_>, now: Timestamp, limit: u32) -> Result<Vec<(TaskId, String)>, StoreError> {
    tx.query(
        OVERDUE,
        |params| {
            params.at(now).int(limit);
        },
        |row| {
            let mut columns = Columns::of(row, "queue");
            Ok((columns.id()?, columns.text()?))
        },
    )
}

/// Moves the leases of a host.
pub(super) fn renew(tx: &mut SqliteTx<'_>, host: &str, ids: &[TaskId], until: Timestamp) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    tx.execute(RENEW, |params| {
        params.at(until).text(host).ids(ids);
    })
}

/// Those of these tasks that a host holds.
pub(super) fn held(tx: &mut SqliteTx<'_>, host: &str, ids: &[TaskId]) -> Result<Vec<(TaskId, Control, Option<String>)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        HELD,
        |params| {
            params.ids(ids).text(host);
        },
        |row| held_task(row),
    )
}

/// Lanes in which tasks can be claimed.
pub(super) async fn lanes(conn: &mut SqliteConnection) -> Result<Vec<LaneUse>, StoreError> {
    let mut params = Params::new();
    params.int(WAITING_MAX);
    let rows = sqlx::query_with(LANES, params.into_list()).fetch_all(conn).await?;
    rows.iter().map(lane_use).collect()
}

/// Where virtual time goes on: no trace of an earlier life may stand far behind the new ones, nor before them all.
pub(super) async fn virtual_time(conn: &mut SqliteConnection) -> Result<u64, StoreError> {
    let row = sqlx::query(VIRTUAL_TIME).fetch_one(conn).await?;
    let rank: Option<i64> = row.try_get(0)?;
    Ok(rank.and_then(|rank| u64::try_from(rank).ok()).unwrap_or(0))
}

/// What the steps of claimed tasks need.
pub(super) fn step_inputs(tx: &mut SqliteTx<'_>, tasks: &[TaskRow]) -> Result<Vec<StepInput>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut inputs = HashMap::with_capacity(tasks.len());
    let mut named = Vec::new();
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    for (input, has_named) in tx.query_each(INPUTS, &ids, |row| step_input(row))? {
        if has_named {
            named.push(input.task_id);
        }
        inputs.insert(input.task_id, input);
    }
    for (task, result) in upstream(tx, &named)? {
        if let Some(input) = inputs.get_mut(&task) {
            input.upstream.push(result);
        }
    }
    for (task, summary) in summaries(tx, tasks)?.done {
        if let Some(input) = inputs.get_mut(&task) {
            input.summary = Some(summary);
        }
    }
    Ok(inputs.into_values().collect())
}

/// Results of the dependencies that tasks named, in the order in which they named them.
fn upstream(tx: &mut SqliteTx<'_>, tasks: &[TaskId]) -> Result<Vec<(TaskId, TaskResult)>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        UPSTREAM,
        |params| {
            params.ids(tasks);
        },
        |row| {
            let mut columns = Columns::of(row, "tasks");
            Ok((columns.id()?, task_result(&mut columns)?))
        },
    )
}

/// How many results there are to fold, for those tasks that fold.
fn summaries(tx: &mut SqliteTx<'_>, tasks: &[TaskRow]) -> Result<Summaries, StoreError> {
    let mut summaries = Summaries::of(tasks);
    for (statement, ids) in [(COUNT_CHILDREN, std::mem::take(&mut summaries.of_children)), (COUNT_DEPENDENCIES, std::mem::take(&mut summaries.of_dependencies))]
    {
        if ids.is_empty() {
            continue;
        }
        tx.query(
            statement,
            |params| {
                params.ids(&ids);
            },
            |row| summaries.count(row),
        )?;
    }
    Ok(summaries)
}
