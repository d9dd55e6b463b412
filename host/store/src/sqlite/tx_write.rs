//! What a transaction writes: sets of rows.

use tower_domain::clock::Timestamp;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::TaskId;
use tower_domain::task::Attempt;

use super::rows::{Bind, Params};
use super::statements;
use super::tx::SqliteTx;
use super::values::Rows;
use crate::StoreError;
use crate::apply::tx::{KnownKey, NewTask, NewTraceRow, RoundRow, TaskRow, TaskWrites, TraceRow};
use crate::rows::work::{bind_attempt, bind_control_event, bind_event, bind_key, bind_new_task, bind_new_trace, bind_round, bind_task, bind_trace, bits};

static INSERT_TRACES: Rows = Rows::new(
    25,
    "INSERT INTO traces (trace_id, root_task_id, status, cancelling, count_pending, count_running, count_success, count_failed, \
     count_cancelled, count_skipped, last_seq, rank, started_at, finished_at, created_at, definition_version, trigger_type, rerun_of, \
     definition_id, user_id, triggered_by, idempotency_key, labels, cron_trigger_time, session_id) SELECT * FROM",
    "WHERE column1 IS NOT NULL",
);

static UPDATE_TRACES: Rows = Rows::new(
    13,
    "UPDATE traces SET status = v.column2, cancelling = v.column3, count_pending = v.column4, count_running = v.column5, \
     count_success = v.column6, count_failed = v.column7, count_cancelled = v.column8, count_skipped = v.column9, \
     last_seq = v.column10, rank = v.column11, started_at = v.column12, finished_at = v.column13 FROM",
    "AS v WHERE traces.trace_id = v.column1",
);

static INSERT_TASKS: Rows = Rows::new(
    45,
    "INSERT INTO tasks (id, trace_id, parent_id, key, actor_type, priority, aggregation, state, leg, cancelling, paused, hours, \
     fence, attempt, max_retries, crashes, open_deps, run_on, run_after, split_count, completed_children, succeeded_children, \
     round_index, started_at, finished_at, progress, progress_message, job_id, definition_version, timeout_sec, layer, depth, \
     is_leaf_agent, created_at, updated_at, depends_on, input_params, output, output_ref, carried, carried_ref, error_code, \
     error_message, gates, parked, lane) \
     SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9, column10, column11, column12, \
     column13, column14, column15, column16, column17, column18, column19, column20, column21, column22, column23, column24, \
     column25, column26, column27, column28, column29, column30, column31, column32, column33, column34, column34, column35, \
     column36, column37, column38, column39, column40, column41, column42, column43, column44, column45 FROM",
    "WHERE column1 IS NOT NULL",
);

static INSERT_DEPENDENCIES: Rows =
    Rows::new(2, "INSERT INTO task_deps (depends_on, task_id) SELECT * FROM", "WHERE column1 IS NOT NULL ON CONFLICT DO NOTHING");

/// The state of a task, and nothing long.
static UPDATE_TASKS: Rows = Rows::new(
    20,
    "UPDATE tasks SET updated_at = ?, state = v.column2, leg = v.column3, cancelling = v.column4, paused = v.column5, \
     hours = v.column6, fence = v.column7, attempt = v.column8, crashes = v.column9, open_deps = v.column10, \
     run_after = v.column11, split_count = v.column12, completed_children = v.column13, succeeded_children = v.column14, \
     round_index = v.column15, started_at = v.column16, finished_at = v.column17, progress = v.column18, \
     progress_message = v.column19, parked = v.column20 FROM",
    "AS v WHERE tasks.id = v.column1",
);

/// The state of a task with what it leaves. Bits of the last column: 1 output, 2 carried, 4 error.
static UPDATE_TASKS_WITH_TEXTS: Rows = Rows::new(
    27,
    "UPDATE tasks SET updated_at = ?, state = v.column2, leg = v.column3, cancelling = v.column4, paused = v.column5, \
     hours = v.column6, fence = v.column7, attempt = v.column8, crashes = v.column9, open_deps = v.column10, \
     run_after = v.column11, split_count = v.column12, completed_children = v.column13, succeeded_children = v.column14, \
     round_index = v.column15, started_at = v.column16, finished_at = v.column17, progress = v.column18, \
     progress_message = v.column19, parked = v.column20, \
     output = CASE WHEN v.column27 & 1 THEN v.column21 ELSE output END, \
     output_ref = CASE WHEN v.column27 & 1 THEN v.column22 ELSE output_ref END, \
     carried = CASE WHEN v.column27 & 2 THEN v.column23 ELSE carried END, \
     carried_ref = CASE WHEN v.column27 & 2 THEN v.column24 ELSE carried_ref END, \
     error_code = CASE WHEN v.column27 & 4 THEN v.column25 ELSE error_code END, \
     error_message = CASE WHEN v.column27 & 4 THEN v.column26 ELSE error_message END FROM",
    "AS v WHERE tasks.id = v.column1",
);

static INSERT_EVENTS: Rows = Rows::new(
    9,
    "INSERT INTO events (trace_id, seq, task_id, event_type, from_status, to_status, at, event_id, payload) SELECT * FROM",
    "WHERE column1 IS NOT NULL",
);

static INSERT_ROUNDS: Rows = Rows::new(
    8,
    "INSERT INTO rounds (task_id, round_index, finished_at, split_count, completed_children, succeeded_children, output, output_ref) SELECT * FROM",
    "WHERE column1 IS NOT NULL",
);

static INSERT_ATTEMPTS: Rows = Rows::new(
    10,
    "INSERT INTO attempts (task_id, fence, attempt, leg, started_at, finished_at, result, host, error_code, error_message) SELECT * FROM",
    "WHERE column1 IS NOT NULL",
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
];

statements! {
    INSERT_CONTROL_EVENT = "INSERT INTO control_events (trace_id, id, task_id, action, created_at, triggered_by, reason) VALUES (?, ?, ?, ?, ?, ?, ?)";
    // Those before the one that it was in, which runs again, however it ended.
    COPY_ROUNDS = "INSERT INTO rounds (task_id, round_index, finished_at, split_count, completed_children, succeeded_children, output, output_ref) \
         SELECT ?, r.round_index, r.finished_at, r.split_count, r.completed_children, r.succeeded_children, r.output, r.output_ref \
         FROM rounds AS r WHERE r.task_id = ? AND r.round_index < (SELECT t.round_index FROM tasks AS t WHERE t.id = r.task_id)";
    DELETE_KEYS = "DELETE FROM idempotency_keys WHERE key IN (SELECT k.key FROM idempotency_keys AS k WHERE k.created_at < ? LIMIT ?)";
    INSERT_KEY = "INSERT INTO idempotency_keys (key, fingerprint, trace_id, root_task_id, created_at) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, trace_id = excluded.trace_id, \
         root_task_id = excluded.root_task_id, created_at = excluded.created_at";
}

/// Inserts traces.
pub(super) async fn insert_traces(tx: &mut SqliteTx<'_>, rows: &[NewTraceRow]) -> Result<(), StoreError> {
    INSERT_TRACES.run(tx, rows, |_| (), bind_new_trace).await
}

/// Updates traces.
pub(super) async fn update_traces(tx: &mut SqliteTx<'_>, rows: &[TraceRow]) -> Result<(), StoreError> {
    UPDATE_TRACES
        .run(
            tx,
            rows,
            |_| (),
            |params, row| {
                params.id(row.trace_id);
                bind_trace(params, row);
            },
        )
        .await
}

/// Inserts tasks and their dependencies.
pub(super) async fn insert_tasks(tx: &mut SqliteTx<'_>, rows: &[NewTask]) -> Result<(), StoreError> {
    INSERT_TASKS.run(tx, rows, |_| (), bind_new_task).await?;
    let dependencies: Vec<(TaskId, TaskId)> =
        rows.iter().flat_map(|new| new.open_deps.iter().chain(&new.ended_deps).map(|dependency| (*dependency, new.row.id))).collect();
    INSERT_DEPENDENCIES
        .run(
            tx,
            &dependencies,
            |_| (),
            |params, (dependency, task)| {
                params.id(*dependency).id(*task);
            },
        )
        .await
}

/// Updates tasks. Those that leave nothing long behind are told apart, so that nothing long of theirs is copied.
pub(super) async fn update_tasks(tx: &mut SqliteTx<'_>, rows: &[(TaskRow, TaskWrites)], now: Timestamp) -> Result<(), StoreError> {
    let (with_texts, without): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, writes)| bits(writes) != 0);
    let first = |params: &mut Params| {
        params.at(now);
    };
    UPDATE_TASKS.run(tx, &without, first, |params, (row, _)| bind_task(params, row)).await?;
    UPDATE_TASKS_WITH_TEXTS
        .run(tx, &with_texts, first, |params, (row, writes)| {
            bind_task(params, row);
            params.output(writes.output.as_ref()).output(writes.carried.as_ref()).error(writes.error.as_ref()).int(bits(writes));
        })
        .await
}

/// Appends events.
pub(super) async fn insert_events(tx: &mut SqliteTx<'_>, events: &[TaskEvent]) -> Result<(), StoreError> {
    INSERT_EVENTS.run(tx, events, |_| (), bind_event).await
}

/// Keeps ended attempts.
pub(super) async fn insert_attempts(tx: &mut SqliteTx<'_>, rows: &[(TaskId, Attempt)]) -> Result<(), StoreError> {
    INSERT_ATTEMPTS.run(tx, rows, |_| (), |params, (task, attempt)| bind_attempt(params, *task, attempt)).await
}

/// Keeps ended rounds.
pub(super) async fn insert_rounds(tx: &mut SqliteTx<'_>, rows: &[RoundRow]) -> Result<(), StoreError> {
    INSERT_ROUNDS.run(tx, rows, |_| (), bind_round).await
}

/// Copies the rounds of one task to another.
pub(super) fn copy_rounds(tx: &mut SqliteTx<'_>, from: TaskId, to: TaskId) {
    tx.params.id(to).id(from);
    tx.stage(COPY_ROUNDS);
}

/// Keeps an order.
pub(super) fn insert_control_event(tx: &mut SqliteTx<'_>, order: &ControlEvent) {
    bind_control_event(&mut tx.params, order);
    tx.stage(INSERT_CONTROL_EVENT);
}

/// Keeps a caller's key, or lets it stand for another trace from now on.
pub(super) fn insert_key(tx: &mut SqliteTx<'_>, key: &KnownKey, now: Timestamp) {
    bind_key(&mut tx.params, key, now);
    tx.stage(INSERT_KEY);
}

/// Forgets callers' keys that are too old to count.
pub(super) fn delete_keys(tx: &mut SqliteTx<'_>, not_before: Timestamp, limit: u32) {
    tx.params.at(not_before).int(limit);
    tx.stage(DELETE_KEYS);
}
