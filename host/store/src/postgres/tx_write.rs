//! What a transaction writes: sets of rows.

use tower_domain::clock::Timestamp;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::TaskId;
use tower_domain::task::Attempt;

use super::rows::{Bind, Params, Table};
use super::statements;
use super::tx::PgTx;
use super::values::Rows;
use crate::StoreError;
use crate::apply::tx::{KnownKey, NewTask, NewTraceRow, RoundRow, TaskRow, TaskWrites, TraceRow};
use crate::rows::work::{bind_attempt, bind_control_event, bind_event, bind_key, bind_new_task, bind_new_trace, bind_round, bind_task, bind_trace, bits};

static INSERT_TRACES: Rows = Rows::new(
    "trace_id uuid, root_task_id uuid, status, cancelling, count_pending, count_running, count_success, count_failed, count_cancelled, \
     count_skipped, last_seq, rank, started_at, finished_at, created_at, definition_version, trigger_type, rerun_of uuid, \
     definition_id text, user_id text, triggered_by text, idempotency_key text, labels text, cron_trigger_time, session_id uuid, changed_at",
    0,
    "INSERT INTO traces ({columns}) SELECT * FROM {rows}",
);

static UPDATE_TRACES: Rows = Rows::new(
    "trace_id uuid, status, cancelling, count_pending, count_running, count_success, count_failed, count_cancelled, count_skipped, \
     last_seq, rank, started_at, finished_at, changed_at",
    0,
    "UPDATE traces AS t SET status = v.status, cancelling = v.cancelling, count_pending = v.count_pending, count_running = v.count_running, \
     count_success = v.count_success, count_failed = v.count_failed, count_cancelled = v.count_cancelled, count_skipped = v.count_skipped, \
     last_seq = v.last_seq, rank = v.rank, started_at = v.started_at, finished_at = v.finished_at, changed_at = v.changed_at \
     FROM {rows} WHERE t.trace_id = v.trace_id",
);

static INSERT_TASKS: Rows = Rows::new(
    "id uuid, trace_id uuid, parent_id uuid, key text, actor_type, priority, aggregation, state, leg, cancelling, paused, hours, \
     fence, attempt, max_retries, crashes, open_deps, run_on, run_after, split_count, completed_children, succeeded_children, \
     round_index, started_at, finished_at, progress, progress_message text, job_id text, definition_version, timeout_sec, layer, depth, \
     is_leaf_agent, created_at, depends_on text, input_params text, output text, output_ref text, carried text, carried_ref text, \
     error_code text, error_message text, gates text, parked, lane text",
    0,
    "INSERT INTO tasks ({columns}, updated_at) SELECT v.*, v.created_at FROM {rows}",
);

static INSERT_DEPENDENCIES: Rows =
    Rows::new("depends_on uuid, task_id uuid", 0, "INSERT INTO task_deps ({columns}) SELECT * FROM {rows} ON CONFLICT DO NOTHING");

/// The state of a task, and nothing long.
static UPDATE_TASKS: Rows = Rows::new(
    "id uuid, state, leg, cancelling, paused, hours, fence, attempt, crashes, open_deps, run_after, split_count, completed_children, \
     succeeded_children, round_index, started_at, finished_at, progress, progress_message text, parked",
    1,
    "UPDATE tasks AS t SET updated_at = {number}, state = v.state, leg = v.leg, cancelling = v.cancelling, paused = v.paused, hours = v.hours, \
     fence = v.fence, attempt = v.attempt, crashes = v.crashes, open_deps = v.open_deps, run_after = v.run_after, \
     split_count = v.split_count, completed_children = v.completed_children, succeeded_children = v.succeeded_children, \
     round_index = v.round_index, started_at = v.started_at, finished_at = v.finished_at, progress = v.progress, \
     progress_message = v.progress_message, parked = v.parked FROM {rows} WHERE t.id = v.id",
);

/// The state of a task with what it leaves. Bits of the last column: 1 output, 2 carried, 4 error.
static UPDATE_TASKS_WITH_TEXTS: Rows = Rows::new(
    "id uuid, state, leg, cancelling, paused, hours, fence, attempt, crashes, open_deps, run_after, split_count, completed_children, \
     succeeded_children, round_index, started_at, finished_at, progress, progress_message text, parked, output text, output_ref text, \
     carried text, carried_ref text, error_code text, error_message text, bits",
    1,
    "UPDATE tasks AS t SET updated_at = {number}, state = v.state, leg = v.leg, cancelling = v.cancelling, paused = v.paused, hours = v.hours, \
     fence = v.fence, attempt = v.attempt, crashes = v.crashes, open_deps = v.open_deps, run_after = v.run_after, \
     split_count = v.split_count, completed_children = v.completed_children, succeeded_children = v.succeeded_children, \
     round_index = v.round_index, started_at = v.started_at, finished_at = v.finished_at, progress = v.progress, \
     progress_message = v.progress_message, parked = v.parked, output = CASE WHEN v.bits & 1 > 0 THEN v.output ELSE t.output END, \
     output_ref = CASE WHEN v.bits & 1 > 0 THEN v.output_ref ELSE t.output_ref END, \
     carried = CASE WHEN v.bits & 2 > 0 THEN v.carried ELSE t.carried END, \
     carried_ref = CASE WHEN v.bits & 2 > 0 THEN v.carried_ref ELSE t.carried_ref END, \
     error_code = CASE WHEN v.bits & 4 > 0 THEN v.error_code ELSE t.error_code END, \
     error_message = CASE WHEN v.bits & 4 > 0 THEN v.error_message ELSE t.error_message END FROM {rows} WHERE t.id = v.id",
);

static INSERT_EVENTS: Rows = Rows::new(
    "trace_id uuid, seq, task_id uuid, event_type, from_status, to_status, at, event_id text, payload text",
    0,
    "INSERT INTO events ({columns}) SELECT * FROM {rows}",
);

static INSERT_ROUNDS: Rows = Rows::new(
    "task_id uuid, round_index, finished_at, split_count, completed_children, succeeded_children, output text, output_ref text",
    0,
    "INSERT INTO rounds ({columns}) SELECT * FROM {rows}",
);

static INSERT_ATTEMPTS: Rows = Rows::new(
    "task_id uuid, fence, attempt, leg, started_at, finished_at, result text, host text, error_code text, error_message text",
    0,
    "INSERT INTO attempts ({columns}) SELECT * FROM {rows}",
);

/// A key that another host has taken since it was looked for stays as it is, and is missed among what was written. In the order of keys, as
/// two hosts may wait for each other's.
static INSERT_KEYS: Rows = Rows::new(
    "key text, fingerprint bytea, trace_id uuid, root_task_id uuid, created_at",
    1,
    "INSERT INTO idempotency_keys AS k ({columns}) SELECT * FROM {rows} ORDER BY v.key COLLATE \"C\" \
     ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, trace_id = excluded.trace_id, \
     root_task_id = excluded.root_task_id, created_at = excluded.created_at WHERE k.created_at < {number}",
);

#[cfg(test)]
pub(super) static ROWS: &[(&str, &Rows)] = &[
    ("INSERT_TRACES", &INSERT_TRACES),
    ("UPDATE_TRACES", &UPDATE_TRACES),
    ("INSERT_TASKS", &INSERT_TASKS),
    ("INSERT_DEPENDENCIES", &INSERT_DEPENDENCIES),
    ("UPDATE_TASKS", &UPDATE_TASKS),
    ("UPDATE_TASKS_WITH_TEXTS", &UPDATE_TASKS_WITH_TEXTS),
    ("INSERT_EVENTS", &INSERT_EVENTS),
    ("INSERT_ATTEMPTS", &INSERT_ATTEMPTS),
    ("INSERT_ROUNDS", &INSERT_ROUNDS),
    ("INSERT_KEYS", &INSERT_KEYS),
];

statements! {
    INSERT_CONTROL_EVENT = "INSERT INTO control_events (trace_id, id, task_id, action, created_at, triggered_by, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    // Those before the one that it was in, which runs again, however it ended.
    COPY_ROUNDS = "INSERT INTO rounds (task_id, round_index, finished_at, split_count, completed_children, succeeded_children, output, output_ref) \
         SELECT $1, r.round_index, r.finished_at, r.split_count, r.completed_children, r.succeeded_children, r.output, r.output_ref \
         FROM rounds AS r WHERE r.task_id = $2 AND r.round_index < (SELECT t.round_index FROM tasks AS t WHERE t.id = r.task_id)";
    // Where another host deletes the same ones, they are its.
    DELETE_KEYS = "DELETE FROM idempotency_keys WHERE key = ANY(ARRAY( \
         SELECT k.key FROM idempotency_keys AS k WHERE k.created_at < $1 ORDER BY k.created_at LIMIT $2 FOR UPDATE SKIP LOCKED))";
}

/// Inserts traces, and callers' keys before them.
pub(super) async fn insert_traces(tx: &mut PgTx, rows: &[NewTraceRow]) -> Result<(), StoreError> {
    let keys = std::mem::take(&mut tx.keys);
    if !keys.is_empty() {
        let not_before = tx.keys_not_before;
        // Each is a new trace's.
        let made: std::collections::HashMap<_, _> = rows.iter().map(|new| (new.row.trace_id, new.row.created_at)).collect();
        let bind = |params: &mut Table, key: &KnownKey| {
            bind_key(params, key, made[&key.trace_id]);
        };
        let written = INSERT_KEYS.written(tx, &keys, &[not_before.as_micros()], bind).await?;
        if written < keys.len() as u64 {
            return Err(StoreError::Raced);
        }
    }
    let bind = |params: &mut Table, new: &NewTraceRow| {
        bind_new_trace(params, new);
        params.opt_at(new.row.changed_at);
    };
    INSERT_TRACES.write(tx, rows, &[], bind).await
}

/// Updates traces.
pub(super) async fn update_traces(tx: &mut PgTx, rows: &[TraceRow]) -> Result<(), StoreError> {
    let bind = |params: &mut Table, row: &TraceRow| {
        params.id(row.trace_id);
        bind_trace(params, row);
        params.opt_at(row.changed_at);
    };
    UPDATE_TRACES.write(tx, rows, &[], bind).await
}

/// Inserts tasks and their dependencies.
pub(super) async fn insert_tasks(tx: &mut PgTx, rows: &[NewTask]) -> Result<(), StoreError> {
    INSERT_TASKS.write(tx, rows, &[], bind_new_task).await?;
    let dependencies: Vec<(TaskId, TaskId)> =
        rows.iter().flat_map(|new| new.open_deps.iter().chain(&new.ended_deps).map(|dependency| (*dependency, new.row.id))).collect();
    let bind = |params: &mut Table, (dependency, task): &(TaskId, TaskId)| {
        params.id(*dependency).id(*task);
    };
    INSERT_DEPENDENCIES.write(tx, &dependencies, &[], bind).await
}

/// Updates tasks. Those that leave nothing long behind are told apart, so that nothing long of theirs is copied.
pub(super) async fn update_tasks(tx: &mut PgTx, rows: &[(TaskRow, TaskWrites)], now: Timestamp) -> Result<(), StoreError> {
    let (with_texts, without): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, writes)| bits(writes) != 0);
    let now = [now.as_micros()];
    UPDATE_TASKS.write(tx, &without, &now, |params, (row, _)| bind_task(params, row)).await?;
    let bind = |params: &mut Table, (row, writes): &&(TaskRow, TaskWrites)| {
        bind_task(params, row);
        params.output(writes.output.as_ref()).output(writes.carried.as_ref()).error(writes.error.as_ref()).int(bits(writes));
    };
    UPDATE_TASKS_WITH_TEXTS.write(tx, &with_texts, &now, bind).await
}

/// Appends events.
pub(super) async fn insert_events(tx: &mut PgTx, events: &[TaskEvent]) -> Result<(), StoreError> {
    INSERT_EVENTS.write(tx, events, &[], bind_event).await
}

/// Keeps ended attempts.
pub(super) async fn insert_attempts(tx: &mut PgTx, rows: &[(TaskId, Attempt)]) -> Result<(), StoreError> {
    INSERT_ATTEMPTS.write(tx, rows, &[], |params, (task, attempt)| bind_attempt(params, *task, attempt)).await
}

/// Keeps ended rounds.
pub(super) async fn insert_rounds(tx: &mut PgTx, rows: &[RoundRow]) -> Result<(), StoreError> {
    INSERT_ROUNDS.write(tx, rows, &[], bind_round).await
}

/// Copies the rounds of one task to another.
pub(super) async fn copy_rounds(tx: &mut PgTx, from: TaskId, to: TaskId) -> Result<(), StoreError> {
    let mut params = Params::new();
    params.id(to).id(from);
    tx.execute(COPY_ROUNDS, params).await?;
    Ok(())
}

/// Keeps an order.
pub(super) async fn insert_control_event(tx: &mut PgTx, order: &ControlEvent) -> Result<(), StoreError> {
    let mut params = Params::new();
    bind_control_event(&mut params, order);
    tx.execute(INSERT_CONTROL_EVENT, params).await?;
    Ok(())
}

/// Forgets callers' keys that are too old to count.
pub(super) async fn delete_keys(tx: &mut PgTx, not_before: Timestamp, limit: u32) -> Result<(), StoreError> {
    let mut params = Params::new();
    params.at(not_before).int(limit);
    tx.execute(DELETE_KEYS, params).await?;
    Ok(())
}
