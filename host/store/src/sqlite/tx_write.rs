//! What a transaction writes: sets of rows.

use tower_domain::clock::Timestamp;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::TaskId;
use tower_domain::lifecycle::Stage;
use tower_domain::task::Attempt;

use super::rows::Bind;
use super::statements;
use super::tx::SqliteTx;
use crate::StoreError;
use crate::apply::tx::{KnownKey, NewTask, NewTraceRow, RoundRow, TaskRow, TaskWrites, TraceRow};
use crate::rows::work::{bind_attempt, bind_control_event, bind_event, bind_key, bind_new_task, bind_new_trace, bind_round, bind_task, bind_trace, bits};

/// What of a task's state changes with almost every step: all but its round, which an index of its own would have to follow.
macro_rules! state {
    () => {
        "state = ?2, leg = ?3, cancelling = ?4, paused = ?5, hours = ?6, fence = ?7, attempt = ?8, crashes = ?9, open_deps = ?10, \
         run_after = ?11, split_count = ?12, completed_children = ?13, succeeded_children = ?14, \
         started_at = ?16, finished_at = ?17, progress = ?18, progress_message = ?19, parked = ?20, updated_at = ?21"
    };
}

/// What [`bits`] are of an error alone, and of an output with it.
const ERROR: i64 = 4;
const OUTPUT_AND_ERROR: i64 = 5;

statements! {
    INSERT_TRACE = "INSERT INTO traces (trace_id, root_task_id, status, cancelling, count_pending, count_running, count_success, count_failed, \
         count_cancelled, count_skipped, last_seq, rank, started_at, finished_at, created_at, definition_version, trigger_type, rerun_of, \
         definition_id, user_id, triggered_by, idempotency_key, labels, cron_trigger_time, session_id) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)";
    UPDATE_TRACE = "UPDATE traces SET status = ?2, cancelling = ?3, count_pending = ?4, count_running = ?5, count_success = ?6, \
         count_failed = ?7, count_cancelled = ?8, count_skipped = ?9, last_seq = ?10, rank = ?11, started_at = ?12, finished_at = ?13 \
         WHERE trace_id = ?1";
    INSERT_TASK = "INSERT INTO tasks (id, trace_id, parent_id, key, actor_type, priority, aggregation, state, leg, cancelling, paused, hours, \
         fence, attempt, max_retries, crashes, open_deps, run_on, run_after, split_count, completed_children, succeeded_children, \
         round_index, started_at, finished_at, progress, progress_message, job_id, definition_version, timeout_sec, layer, depth, \
         is_leaf_agent, created_at, depends_on, input_params, output, output_ref, carried, carried_ref, error_code, \
         error_message, gates, parked, lane, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39, ?40, ?41, ?42, ?43, ?44, ?45, ?34)";
    INSERT_DEPENDENCY = "INSERT INTO task_deps (depends_on, task_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    // Nothing long.
    UPDATE_TASK = concat!("UPDATE tasks SET ", state!(), " WHERE id = ?1");
    // With an error, or without it from now on: what most that are cancelled or skipped leave.
    UPDATE_TASK_WITH_ERROR = concat!("UPDATE tasks SET ", state!(), ", error_code = ?22, error_message = ?23 WHERE id = ?1");
    // And with an output: what most that end well leave.
    UPDATE_TASK_WITH_OUTPUT = concat!(
        "UPDATE tasks SET ", state!(), ", error_code = ?22, error_message = ?23, output = ?24, output_ref = ?25 WHERE id = ?1"
    );
    // With whatever it leaves. Bits of the last parameter: 1 output, 2 carried, 4 error.
    UPDATE_TASK_WITH_TEXTS = concat!(
        "UPDATE tasks SET ", state!(), ", \
         output = CASE WHEN ?28 & 1 THEN ?22 ELSE output END, output_ref = CASE WHEN ?28 & 1 THEN ?23 ELSE output_ref END, \
         carried = CASE WHEN ?28 & 2 THEN ?24 ELSE carried END, carried_ref = CASE WHEN ?28 & 2 THEN ?25 ELSE carried_ref END, \
         error_code = CASE WHEN ?28 & 4 THEN ?26 ELSE error_code END, error_message = CASE WHEN ?28 & 4 THEN ?27 ELSE error_message END \
         WHERE id = ?1"
    );
    UPDATE_ROUND = "UPDATE tasks SET round_index = ?2 WHERE id = ?1";
    INSERT_EVENT = "INSERT INTO events (trace_id, seq, task_id, event_type, from_status, to_status, at, event_id, payload) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    INSERT_ROUND = "INSERT INTO rounds (task_id, round_index, finished_at, split_count, completed_children, succeeded_children, output, output_ref) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    INSERT_ATTEMPT = "INSERT INTO attempts (task_id, fence, attempt, leg, started_at, finished_at, result, host, error_code, error_message) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
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
pub(super) fn insert_traces(tx: &mut SqliteTx<'_>, rows: &[NewTraceRow]) -> Result<(), StoreError> {
    tx.execute_each(INSERT_TRACE, rows, |params, row| bind_new_trace(params, row))
}

/// Updates traces.
pub(super) fn update_traces(tx: &mut SqliteTx<'_>, rows: &[TraceRow]) -> Result<(), StoreError> {
    tx.execute_each(UPDATE_TRACE, rows, |params, row| {
        params.id(row.trace_id);
        bind_trace(params, row);
    })
}

/// Inserts tasks and their dependencies.
pub(super) fn insert_tasks(tx: &mut SqliteTx<'_>, rows: &[NewTask]) -> Result<(), StoreError> {
    tx.execute_each(INSERT_TASK, rows, |params, row| bind_new_task(params, row))?;
    let dependencies: Vec<(TaskId, TaskId)> =
        rows.iter().flat_map(|new| new.open_deps.iter().chain(&new.ended_deps).map(|dependency| (*dependency, new.row.id))).collect();
    tx.execute_each(INSERT_DEPENDENCY, &dependencies, |params, (dependency, task)| {
        params.id(*dependency).id(*task);
    })
}

/// Updates tasks. They are told apart by what they leave behind, so that nothing else that is long is looked at.
pub(super) fn update_tasks(tx: &mut SqliteTx<'_>, rows: &[(TaskRow, TaskWrites)], now: Timestamp) -> Result<(), StoreError> {
    let (mut with_nothing, mut with_error, mut with_output, mut with_texts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        match bits(&row.1) {
            0 => with_nothing.push(row),
            ERROR => with_error.push(row),
            OUTPUT_AND_ERROR => with_output.push(row),
            _ => with_texts.push(row),
        }
    }
    tx.execute_each(UPDATE_TASK, &with_nothing, |params, (row, _)| {
        bind_task(params, row);
        params.at(now);
    })?;
    tx.execute_each(UPDATE_TASK_WITH_ERROR, &with_error, |params, (row, writes)| {
        bind_task(params, row);
        params.at(now).error(writes.error.as_ref());
    })?;
    tx.execute_each(UPDATE_TASK_WITH_OUTPUT, &with_output, |params, (row, writes)| {
        bind_task(params, row);
        params.at(now).error(writes.error.as_ref()).output(writes.output.as_ref());
    })?;
    tx.execute_each(UPDATE_TASK_WITH_TEXTS, &with_texts, |params, (row, writes)| {
        bind_task(params, row);
        params.at(now).output(writes.output.as_ref()).output(writes.carried.as_ref()).error(writes.error.as_ref()).int(bits(writes));
    })?;
    for (row, _) in rows {
        match row.state.stage {
            Stage::Claimed => drop(tx.claimed.insert(row.id, row.clone())),
            _ => drop(tx.claimed.remove(&row.id)),
        }
    }
    let in_next_round: Vec<_> = rows.iter().filter(|(_, writes)| writes.next_round).collect();
    tx.execute_each(UPDATE_ROUND, &in_next_round, |params, (row, _)| {
        params.id(row.id).int(row.state.round);
    })
}

/// Appends events.
pub(super) fn insert_events(tx: &mut SqliteTx<'_>, events: &[TaskEvent]) -> Result<(), StoreError> {
    tx.execute_each(INSERT_EVENT, events, |params, event| bind_event(params, event))
}

/// Keeps ended attempts.
pub(super) fn insert_attempts(tx: &mut SqliteTx<'_>, rows: &[(TaskId, Attempt)]) -> Result<(), StoreError> {
    tx.execute_each(INSERT_ATTEMPT, rows, |params, (task, attempt)| bind_attempt(params, *task, attempt))
}

/// Keeps ended rounds.
pub(super) fn insert_rounds(tx: &mut SqliteTx<'_>, rows: &[RoundRow]) -> Result<(), StoreError> {
    tx.execute_each(INSERT_ROUND, rows, |params, row| bind_round(params, row))
}

/// Copies the rounds of one task to another.
pub(super) fn copy_rounds(tx: &mut SqliteTx<'_>, from: TaskId, to: TaskId) -> Result<(), StoreError> {
    tx.execute(COPY_ROUNDS, |params| {
        params.id(to).id(from);
    })
}

/// Keeps an order.
pub(super) fn insert_control_event(tx: &mut SqliteTx<'_>, order: &ControlEvent) -> Result<(), StoreError> {
    tx.execute(INSERT_CONTROL_EVENT, |params| bind_control_event(params, order))
}

/// Keeps a caller's key, or lets it stand for another trace from now on.
pub(super) fn insert_key(tx: &mut SqliteTx<'_>, key: &KnownKey, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(INSERT_KEY, |params| bind_key(params, key, now))
}

/// Forgets callers' keys that are too old to count.
pub(super) fn delete_keys(tx: &mut SqliteTx<'_>, not_before: Timestamp, limit: u32) -> Result<(), StoreError> {
    tx.execute(DELETE_KEYS, |params| {
        params.at(not_before).int(limit);
    })
}
