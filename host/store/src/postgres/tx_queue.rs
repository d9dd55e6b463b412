//! The queue inside a transaction, and what a claimed step is handed.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::Control;
use tower_domain::id::TaskId;
use tower_domain::task::TaskResult;

use super::rows::{Array, Bind, Columns, Params, Table};
use super::tx::PgTx;
use super::values::Rows;
use super::{Seen, statements};
use crate::StoreError;
use crate::apply::tx::{QueuePlace, QueueRow, StepInput, TaskRow};
use crate::read::{LaneUse, WAITING_MAX};
use crate::rows::nouns::{task_result, task_result_columns};
use crate::rows::work::{Summaries, bind_queue, held_task, lane_use, step_input, step_input_columns};

/// Places of the queue that are looked at for each task that is wanted, as another host may hold some.
const LOOKED_AT: u32 = 4;

/// And for a wish that is small.
const LOOKED_AT_MIN: u32 = 200;

/// Tasks on their way that the queue is looked at without.
const MOVING_MAX: usize = 64;

static PUT: Rows = Rows::new(
    "task_id uuid, place, priority, rank, due, lease_until, owner text, gate text, lane text",
    0,
    "INSERT INTO queue ({columns}) SELECT * FROM {rows} ON CONFLICT (task_id) DO UPDATE SET place = excluded.place, \
     priority = excluded.priority, rank = excluded.rank, due = excluded.due, lease_until = excluded.lease_until, owner = excluded.owner, \
     gate = excluded.gate, lane = excluded.lane",
);

/// And whether something is left that can be claimed, by this process or in a lane of its own. Of the tasks that are named nothing is asked.
static NEXT_DUE: Rows = Rows::new(
    "task_id uuid",
    0,
    "SELECT least((SELECT w.due FROM queue AS w WHERE w.place = 1 AND w.task_id <> ALL({first}) ORDER BY w.due LIMIT 1), \
         (SELECT g.opens_at FROM gates AS g WHERE g.opens_at IS NOT NULL ORDER BY g.opens_at LIMIT 1)), \
         EXISTS (SELECT 1 FROM queue AS r WHERE r.place = 0 AND r.task_id <> ALL({first})), \
         EXISTS (SELECT 1 FROM queue AS e WHERE e.place = 4 AND e.lane > '' AND e.task_id <> ALL({first}))",
);

static DELETE: Rows = Rows::new("task_id uuid", 0, "DELETE FROM queue WHERE task_id = ANY({first})");

#[cfg(test)]
pub(super) static ROWS: &[(&str, &Rows)] = &[("PUT", &PUT), ("DELETE", &DELETE), ("NEXT_DUE", &NEXT_DUE)];

/// A statement that takes rows of the queue with their traces; those that another transaction holds are left to it. The first subquery
/// walks the queue and no further than is worth it, however much others hold.
macro_rules! take {
    ($columns:literal, $which:literal, $order:literal) => {
        concat!(
            "SELECT ",
            $columns,
            ", t.trace_id FROM (SELECT f.* FROM queue AS f WHERE ",
            $which,
            " ORDER BY ",
            $order,
            ") AS first \
             JOIN queue AS q ON q.task_id = first.task_id AND q.place = first.place \
             JOIN tasks AS k ON k.id = q.task_id JOIN traces AS t ON t.trace_id = k.trace_id "
        )
    };
}

statements! {
    READY = concat!(
        take!("q.task_id, q.rank", "f.place = 0", "f.priority DESC, f.rank, f.task_id LIMIT $2"),
        "ORDER BY first.priority DESC, first.rank, first.task_id LIMIT $1 FOR UPDATE OF q, t SKIP LOCKED"
    );
    // The head of each priority is read, and of those what comes first.
    FAIR = "SELECT q.task_id, q.rank, t.trace_id FROM (SELECT h.* FROM generate_series(1, 10) AS p (priority) CROSS JOIN LATERAL ( \
             SELECT f.task_id, f.place, f.rank FROM queue AS f WHERE f.place = 0 AND f.priority = p.priority ORDER BY f.rank, f.task_id LIMIT $2) AS h \
             ORDER BY h.rank, h.task_id LIMIT $2) AS first \
         JOIN queue AS q ON q.task_id = first.task_id AND q.place = first.place \
         JOIN tasks AS k ON k.id = q.task_id JOIN traces AS t ON t.trace_id = k.trace_id \
         ORDER BY first.rank, first.task_id LIMIT $1 FOR UPDATE OF q, t SKIP LOCKED";
    READY_IN = concat!(
        take!("q.task_id, q.rank", "f.place = 4 AND f.lane = $3", "f.priority DESC, f.rank, f.task_id LIMIT $2"),
        "ORDER BY first.priority DESC, first.rank, first.task_id LIMIT $1 FOR UPDATE OF q, t SKIP LOCKED"
    );
    FAIR_IN = "SELECT q.task_id, q.rank, t.trace_id FROM (SELECT h.* FROM generate_series(1, 10) AS p (priority) CROSS JOIN LATERAL ( \
             SELECT f.task_id, f.place, f.rank FROM queue AS f WHERE f.place = 4 AND f.lane = $3 AND f.priority = p.priority ORDER BY f.rank, f.task_id LIMIT $2) AS h \
             ORDER BY h.rank, h.task_id LIMIT $2) AS first \
         JOIN queue AS q ON q.task_id = first.task_id AND q.place = first.place \
         JOIN tasks AS k ON k.id = q.task_id JOIN traces AS t ON t.trace_id = k.trace_id \
         ORDER BY first.rank, first.task_id LIMIT $1 FOR UPDATE OF q, t SKIP LOCKED";
    // One look for each lane, however many wait in it.
    LANES = "WITH RECURSIVE l (lane) AS (SELECT min(f.lane) FROM queue AS f WHERE f.place = 4 \
             UNION ALL SELECT (SELECT min(q.lane) FROM queue AS q WHERE q.place = 4 AND q.lane > l.lane) FROM l WHERE l.lane IS NOT NULL) \
         SELECT * FROM (SELECT NULL AS lane, (SELECT count(*) FROM (SELECT 1 FROM queue AS r WHERE r.place = 0 LIMIT $1) AS w) AS ready \
             UNION ALL SELECT l.lane, (SELECT count(*) FROM (SELECT 1 FROM queue AS r WHERE r.place = 4 AND r.lane = l.lane LIMIT $1) AS w) \
             FROM l WHERE l.lane IS NOT NULL) AS u LIMIT 1000";
    DUE = concat!(take!("q.task_id", "f.place = 1 AND f.due <= $3", "f.due, f.task_id LIMIT $2"), "ORDER BY first.due, first.task_id LIMIT $1 FOR UPDATE OF q, t SKIP LOCKED");
    OVERDUE = concat!(
        take!("q.task_id, q.owner", "f.place = 2 AND f.lease_until < $3", "f.lease_until, f.task_id LIMIT $2"),
        "WHERE q.lease_until < $3 ORDER BY first.lease_until, first.task_id LIMIT $1 FOR UPDATE OF q, t SKIP LOCKED"
    );
    // A host that starts anew waits for whoever holds something of its: nobody else will take it back at once.
    CLAIMED_BY = "SELECT q.task_id, t.trace_id FROM queue AS q JOIN tasks AS k ON k.id = q.task_id JOIN traces AS t ON t.trace_id = k.trace_id \
         WHERE q.place = 2 AND q.owner = $2 ORDER BY t.trace_id LIMIT $1 FOR UPDATE OF t, q";
    // A row that somebody holds is on its way elsewhere.
    RENEW = "UPDATE queue SET lease_until = $1 WHERE task_id = ANY(ARRAY( \
         SELECT q.task_id FROM queue AS q WHERE q.place = 2 AND q.owner = $2 AND q.task_id = ANY($3) FOR UPDATE SKIP LOCKED))";
    // 2 is CANCEL.
    HELD = "SELECT t.id, t.cancelling, t.paused, CASE WHEN t.cancelling > 0 THEN ( \
             SELECT c.reason FROM control_events AS c WHERE c.trace_id = t.trace_id AND c.action = 2 ORDER BY c.id DESC LIMIT 1) END \
         FROM queue AS q JOIN tasks AS t ON t.id = q.task_id WHERE q.task_id = ANY($1) AND q.place = 2 AND q.owner = $2";
    CLAIMED_UP_TO = "SELECT max(c.rank) FROM queue AS c WHERE c.place = 2";
    // What was claimed last tells how far it had come; else one look at the head of each priority.
    VIRTUAL_TIME = "SELECT coalesce((SELECT max(c.rank) FROM queue AS c WHERE c.place = 2), \
         (SELECT min((SELECT q.rank FROM queue AS q WHERE q.place = 0 AND q.priority = p.priority ORDER BY q.rank LIMIT 1)) \
         FROM generate_series(1, 10) AS p (priority)))";
    INPUTS = concat!("SELECT ", step_input_columns!(), " FROM tasks AS t WHERE t.id = ANY($1)");
    // OFFSET 0: they are looked up by their ids, and then by what else is known of them.
    UPSTREAM = concat!(
        "SELECT w.id, ", task_result_columns!(), " FROM unnest($1) WITH ORDINALITY AS i (id, number) CROSS JOIN LATERAL ( \
             SELECT n.id, n.parent_id, n.round_index, n.depends_on FROM tasks AS n WHERE n.id = i.id OFFSET 0) AS w \
         CROSS JOIN LATERAL json_array_elements_text(w.depends_on::json) WITH ORDINALITY AS k (key, number) \
         JOIN tasks AS t ON t.parent_id = w.parent_id AND t.round_index = w.round_index AND t.key = k.key ORDER BY i.number, k.number"
    );
    COUNT_CHILDREN = "SELECT t.parent_id, t.state, count(*) FROM tasks AS p \
         JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index WHERE p.id = ANY($1) GROUP BY 1, 2";
    COUNT_DEPENDENCIES = "SELECT d.task_id, t.state, count(*) FROM task_deps AS d JOIN tasks AS t ON t.id = d.depends_on \
         WHERE d.task_id = ANY($1) GROUP BY 1, 2";
}

/// Puts rows, whether they are there or not.
pub(super) async fn put(tx: &mut PgTx, rows: &[QueueRow]) -> Result<(), StoreError> {
    PUT.write(tx, rows, &[], bind_queue).await
}

/// Deletes rows.
pub(super) async fn delete(tx: &mut PgTx, ids: &[TaskId]) -> Result<(), StoreError> {
    let bind = |params: &mut Table, id: &TaskId| {
        params.id(*id);
    };
    DELETE.write(tx, ids, &[], bind).await
}

/// Takes rows with their traces. Their last column is the trace; `read` reads those before it.
async fn take<T>(
    tx: &mut PgTx,
    statement: &'static str,
    params: Params,
    read: impl Fn(&mut Columns<'_, PgRow>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let rows = tx.fetch(statement, params).await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row, "queue");
        taken.push(read(&mut columns)?);
        tx.locked.insert(columns.id()?);
    }
    Ok(taken)
}

fn wanted(limit: u32) -> Params {
    let mut params = Params::new();
    params.int(limit).int(limit.saturating_mul(LOOKED_AT).max(LOOKED_AT_MIN));
    params
}

/// The first tasks that can be claimed, with their rank.
pub(super) async fn ready(tx: &mut PgTx, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    take(tx, READY, wanted(limit), |columns| Ok((columns.id()?, columns.uint()?))).await
}

/// The first tasks that can be claimed, whatever their priority.
pub(super) async fn fair(tx: &mut PgTx, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    take(tx, FAIR, wanted(limit), |columns| Ok((columns.id()?, columns.uint()?))).await
}

/// The first tasks of a lane that can be claimed, with their rank.
pub(super) async fn ready_in(tx: &mut PgTx, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    take(tx, READY_IN, wanted_in(lane, limit), |columns| Ok((columns.id()?, columns.uint()?))).await
}

/// The first tasks of a lane that can be claimed, whatever their priority.
pub(super) async fn fair_in(tx: &mut PgTx, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
    take(tx, FAIR_IN, wanted_in(lane, limit), |columns| Ok((columns.id()?, columns.uint()?))).await
}

fn wanted_in(lane: &Lane, limit: u32) -> Params {
    let mut params = wanted(limit);
    params.text(lane.to_string());
    params
}

/// Waiting tasks that are due, the longest overdue first.
pub(super) async fn due(tx: &mut PgTx, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    let mut params = wanted(limit);
    params.at(now);
    take(tx, DUE, params, |columns| columns.id()).await
}

/// When the next waiting task is due, or the next gate opens.
pub(super) async fn next_due(tx: &mut PgTx) -> Result<Option<Timestamp>, StoreError> {
    // What waits to be written is not seen. Of tasks it is known where they go, and each that is passed over is compared with all of them.
    if tx.waits_for("gates") || tx.moving.len() > MOVING_MAX {
        tx.write().await?;
    }
    let moving = std::mem::take(&mut tx.moving);
    let ids: Vec<TaskId> = moving.iter().map(|(id, _)| *id).collect();
    let rows = tx.fetch_beside(NEXT_DUE.with(vec![Array::ids(&ids)])).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut columns = Columns::of(row, "queue");
    let mut seen = Seen { next_due: columns.opt_at()?, ready: columns.flag()?, elsewhere: columns.flag()? };
    for place in moving.into_iter().filter_map(|(_, place)| place) {
        match place {
            QueuePlace::Due(at) => seen.next_due = Some(seen.next_due.map_or(at, |due| due.min(at))),
            QueuePlace::Ready(Lane::Process) => seen.ready = true,
            QueuePlace::Ready(_) => seen.elsewhere = true,
            QueuePlace::Claimed { .. } | QueuePlace::Parked(_) => {}
        }
    }
    tx.seen = Some(seen);
    Ok(seen.next_due)
}

/// Claimed tasks of a host.
pub(super) async fn claimed_by(tx: &mut PgTx, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError> {
    let mut params = Params::new();
    params.int(limit).text(host);
    let mut claimed: Vec<TaskId> = take(tx, CLAIMED_BY, params, |columns| columns.id()).await?;
    claimed.sort_unstable();
    Ok(claimed)
}

/// Claimed tasks whose lease is over, each with the host that held it.
pub(super) async fn overdue(tx: &mut PgTx, now: Timestamp, limit: u32) -> Result<Vec<(TaskId, String)>, StoreError> {
    let mut params = wanted(limit);
    params.at(now);
    let mut overdue: Vec<(TaskId, String)> = take(tx, OVERDUE, params, |columns| Ok((columns.id()?, columns.text()?))).await?;
    overdue.sort_unstable_by(|one, other| (&one.1, one.0).cmp(&(&other.1, other.0)));
    Ok(overdue)
}

/// Moves the leases of a host.
pub(super) async fn renew(tx: &mut PgTx, host: &str, ids: &[TaskId], until: Timestamp) -> Result<(), StoreError> {
    if !ids.is_empty() {
        let mut params = Params::new();
        params.at(until).text(host).ids(ids);
        tx.execute(RENEW, params).await?;
    }
    Ok(())
}

/// Those of these tasks that a host holds.
pub(super) async fn held(tx: &mut PgTx, host: &str, ids: &[TaskId]) -> Result<Vec<(TaskId, Control, Option<String>)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = Params::new();
    params.ids(ids).text(host);
    tx.fetch(HELD, params).await?.iter().map(held_task).collect()
}

/// Lanes in which tasks can be claimed.
pub(super) async fn lanes(conn: &mut PgConnection) -> Result<Vec<LaneUse>, StoreError> {
    let mut params = Params::new();
    params.int(WAITING_MAX);
    let rows = sqlx::query_with(LANES, params.into_list()).fetch_all(conn).await?;
    rows.iter().map(lane_use).collect()
}

/// Where virtual time goes on: no trace of an earlier life may stand far behind the new ones, nor before them all.
pub(super) async fn virtual_time(conn: &mut PgConnection) -> Result<u64, StoreError> {
    rank(conn, VIRTUAL_TIME).await
}

/// How far the hosts together have come with their claims.
pub(super) async fn claimed_up_to(conn: &mut PgConnection) -> Result<u64, StoreError> {
    rank(conn, CLAIMED_UP_TO).await
}

async fn rank(conn: &mut PgConnection, statement: &'static str) -> Result<u64, StoreError> {
    let row = sqlx::query(statement).fetch_one(conn).await?;
    Ok(Columns::of(&row, "queue").opt_uint()?.unwrap_or(0))
}

/// What the steps of claimed tasks need.
pub(super) async fn step_inputs(tx: &mut PgTx, tasks: &[TaskRow]) -> Result<Vec<StepInput>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut inputs = HashMap::with_capacity(tasks.len());
    let mut named = Vec::new();
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    let mut params = Params::new();
    params.ids(&ids);
    for row in &tx.fetch(INPUTS, params).await? {
        let (input, has_named) = step_input(row)?;
        if has_named {
            named.push(input.task_id);
        }
        inputs.insert(input.task_id, input);
    }
    for (task, result) in upstream(tx, &named).await? {
        if let Some(input) = inputs.get_mut(&task) {
            input.upstream.push(result);
        }
    }
    for (task, summary) in summaries(tx, tasks).await?.done {
        if let Some(input) = inputs.get_mut(&task) {
            input.summary = Some(summary);
        }
    }
    Ok(inputs.into_values().collect())
}

/// Results of the dependencies that tasks named, in the order in which they named them.
async fn upstream(tx: &mut PgTx, tasks: &[TaskId]) -> Result<Vec<(TaskId, TaskResult)>, StoreError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = Params::new();
    params.ids(tasks);
    let rows = tx.fetch(UPSTREAM, params).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "tasks");
            Ok((columns.id()?, task_result(&mut columns)?))
        })
        .collect()
}

/// How many results there are to fold, for those tasks that fold.
async fn summaries(tx: &mut PgTx, tasks: &[TaskRow]) -> Result<Summaries, StoreError> {
    let mut summaries = Summaries::of(tasks);
    let (of_children, of_dependencies) = (std::mem::take(&mut summaries.of_children), std::mem::take(&mut summaries.of_dependencies));
    for (statement, ids) in [(COUNT_CHILDREN, of_children), (COUNT_DEPENDENCIES, of_dependencies)] {
        if ids.is_empty() {
            continue;
        }
        let mut params = Params::new();
        params.ids(&ids);
        for row in &tx.fetch(statement, params).await? {
            summaries.count(row)?;
        }
    }
    Ok(summaries)
}
