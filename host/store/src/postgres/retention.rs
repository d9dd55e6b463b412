//! Deletes what is kept no longer.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::name::Name;

use super::rows::{Bind, Cells, Columns, Params};
use super::{PostgresStore, statements};
use crate::StoreError;
use crate::artifacts::BEFORE_DIGITS;
use crate::retention::{RetentionStore, Retired, TRACES_MAX};

statements! {
    RETIRING = "SELECT r.trace_id FROM retired AS r ORDER BY r.trace_id LIMIT $1";
    // Whoever takes results over from one locks it to the end: it is passed over until then, and what was taken over is seen.
    ENDED = "SELECT t.trace_id, t.definition_id, t.cron_trigger_time, t.idempotency_key FROM traces AS t \
         WHERE t.finished_at < $1 ORDER BY t.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED";
    RETIRE = "INSERT INTO retired (trace_id) VALUES ($1)";
    DELETE_TRACE = "DELETE FROM traces WHERE trace_id = $1";
    DELETE_ORDERS = "DELETE FROM control_events WHERE trace_id = $1";
    DELETE_KEY = "DELETE FROM idempotency_keys WHERE key = $1 AND trace_id = $2";
    FORGET_FIRE = "UPDATE cron_fires SET trace_id = NULL WHERE definition_id = $1 AND instant = $2";
    // All but the latest of the definition; those before this one have mostly gone before it.
    DELETE_FIRES = "DELETE FROM cron_fires WHERE definition_id = $1 AND instant <= $2 AND trace_id IS NULL \
         AND instant < (SELECT max(f.instant) FROM cron_fires AS f WHERE f.definition_id = $1)";
    FORGET_LAST = "UPDATE schedules SET last_trace_id = NULL WHERE definition_id = $1 AND last_trace_id = $2";
    // They are numbered without a gap.
    DELETE_EVENTS = "DELETE FROM events WHERE trace_id = $1 AND seq < (SELECT min(e.seq) FROM events AS e WHERE e.trace_id = $1) + $2";
    TASKS = "SELECT k.id FROM tasks AS k WHERE k.trace_id = $1 LIMIT $2";
    DELETE_ATTEMPTS = "DELETE FROM attempts WHERE task_id = ANY($1)";
    DELETE_ROUNDS = "DELETE FROM rounds WHERE task_id = ANY($1)";
    // Both ends are of one trace.
    DELETE_DEPENDENCIES = "DELETE FROM task_deps WHERE task_id = ANY($1)";
    DELETE_TASKS = "DELETE FROM tasks WHERE id = ANY($1)";
    // To a trace that has taken the result over, whichever, or to nobody.
    PASS_ON = "UPDATE artifacts AS a SET trace_id = coalesce( \
             (SELECT k.trace_id FROM tasks AS k WHERE k.output_ref = $3 || encode(a.digest, 'hex') LIMIT 1), \
             (SELECT k.trace_id FROM tasks AS k WHERE k.carried_ref = $3 || encode(a.digest, 'hex') LIMIT 1), \
             (SELECT k.trace_id FROM rounds AS r JOIN tasks AS k ON k.id = r.task_id WHERE r.output_ref = $3 || encode(a.digest, 'hex') LIMIT 1)) \
         WHERE a.digest = ANY(ARRAY(SELECT m.digest FROM artifacts AS m WHERE m.trace_id = $1 LIMIT $2))";
    DELETE_RETIRED = "DELETE FROM retired WHERE trace_id = $1";
    // Whoever has it deletes; the number means nothing.
    ALONE = "SELECT pg_try_advisory_xact_lock(7206953348713)";
}

#[async_trait]
impl RetentionStore for PostgresStore {
    #[tracing::instrument(name = "store.retire", level = "debug", skip_all)]
    async fn retire(&self, now: Timestamp, kept: Duration, rows_max: u32) -> Result<Retired, StoreError> {
        let mut tx = self.begin().await?;
        if !sqlx::query_scalar::<_, bool>(ALONE).fetch_one(&mut *tx).await? {
            return Ok(Retired::default());
        }
        let now = self.instant(&mut tx, now).await?;
        let retired = piece(&mut tx, now.minus(kept), rows_max).await?;
        tx.commit().await?;
        Ok(retired)
    }
}

/// A trace to be deleted, and what refers to it.
struct Ended {
    trace: TraceId,
    definition: Name,
    instant: Option<Timestamp>,
    key: Option<String>,
}

fn ended(row: &impl Cells) -> Result<Ended, StoreError> {
    let mut columns = Columns::of(row, "traces");
    Ok(Ended { trace: columns.id()?, definition: columns.name()?, instant: columns.opt_at()?, key: columns.opt_text()? })
}

/// One piece of work.
async fn piece(conn: &mut PgConnection, before: Timestamp, rows_max: u32) -> Result<Retired, StoreError> {
    let mut retired = Retired::default();
    let mut params = Params::new();
    params.int(TRACES_MAX as i64);
    let rows = query_with(RETIRING, params.into_list()).fetch_all(&mut *conn).await?;
    let mut traces = rows.iter().map(|row| Columns::of(row, "retired").id()).collect::<Result<Vec<TraceId>, _>>()?;
    let room = TRACES_MAX - traces.len();
    let mut params = Params::new();
    params.at(before).int(room as i64);
    let rows = query_with(ENDED, params.into_list()).fetch_all(&mut *conn).await?;
    for row in &rows {
        let ended = ended(row)?;
        take_out(conn, &ended).await?;
        traces.push(ended.trace);
    }
    retired.traces = rows.len() as u64;
    let mut left = rows_max;
    for trace in traces {
        left -= delete(conn, trace, left).await?;
        if left == 0 {
            break;
        }
        one(conn, DELETE_RETIRED, trace).await?;
    }
    retired.rows = u64::from(rows_max - left);
    retired.more = left == 0 || rows.len() == room;
    Ok(retired)
}

/// Deletes a trace's own row and what refers to it; the latest instant that fired stays, so that it never fires again.
async fn take_out(conn: &mut PgConnection, ended: &Ended) -> Result<(), StoreError> {
    for statement in [RETIRE, DELETE_TRACE, DELETE_ORDERS] {
        one(conn, statement, ended.trace).await?;
    }
    if let Some(key) = &ended.key {
        let mut params = Params::new();
        params.text(key).id(ended.trace);
        query_with(DELETE_KEY, params.into_list()).execute(&mut *conn).await?;
    }
    let Some(instant) = ended.instant else { return Ok(()) };
    for statement in [FORGET_FIRE, DELETE_FIRES] {
        let mut params = Params::new();
        params.text(ended.definition.as_str()).at(instant);
        query_with(statement, params.into_list()).execute(&mut *conn).await?;
    }
    let mut params = Params::new();
    params.text(ended.definition.as_str()).id(ended.trace);
    query_with(FORGET_LAST, params.into_list()).execute(&mut *conn).await?;
    Ok(())
}

/// Deletes so many rows of a trace, events before tasks, and passes its artifacts on after them; answers how many there were.
async fn delete(conn: &mut PgConnection, trace: TraceId, rows_max: u32) -> Result<u32, StoreError> {
    let mut params = Params::new();
    params.id(trace).int(i64::from(rows_max));
    let events = query_with(DELETE_EVENTS, params.into_list()).execute(&mut *conn).await?.rows_affected();
    let events = u32::try_from(events).unwrap_or(rows_max).min(rows_max);
    let mut params = Params::new();
    params.id(trace).int(i64::from(rows_max - events));
    let rows = query_with(TASKS, params.into_list()).fetch_all(&mut *conn).await?;
    let tasks = rows.iter().map(|row| Columns::of(row, "tasks").id()).collect::<Result<Vec<TaskId>, _>>()?;
    if !tasks.is_empty() {
        for statement in [DELETE_ATTEMPTS, DELETE_ROUNDS, DELETE_DEPENDENCIES, DELETE_TASKS] {
            let mut params = Params::new();
            params.ids(&tasks);
            query_with(statement, params.into_list()).execute(&mut *conn).await?;
        }
    }
    let rows = events + tasks.len() as u32;
    if rows == rows_max {
        return Ok(rows);
    }
    // None of its own tasks is left: whoever refers to an artifact now has taken it over.
    let mut params = Params::new();
    params.id(trace).int(i64::from(rows_max - rows)).text(BEFORE_DIGITS);
    let passed = query_with(PASS_ON, params.into_list()).execute(&mut *conn).await?.rows_affected();
    Ok(rows + u32::try_from(passed).unwrap_or(rows_max).min(rows_max - rows))
}

async fn one(conn: &mut PgConnection, statement: &'static str, trace: TraceId) -> Result<(), StoreError> {
    let mut params = Params::new();
    params.id(trace);
    query_with(statement, params.into_list()).execute(conn).await?;
    Ok(())
}
