//! What readers ask about one thing: a trace, a task, its history.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::split::ExistingChild;
use tower_domain::step::ResultPage;
use tower_domain::task::{Attempt, Task};
use tower_domain::trace::Trace;

use super::rows::{Columns, Params, id_array};
use super::words::State;
use super::{SqliteStore, lists, results, statements};
use crate::StoreError;
use crate::read::{Page, PageRequest, Reader, TaskFilter, TraceFilter};

/// Columns of [`event`], of `events AS e` with its `tasks AS t`.
macro_rules! event_columns {
    () => {
        "e.event_id, e.seq, e.trace_id, e.task_id, t.parent_id, t.actor_type, e.event_type, e.from_status, e.to_status, e.payload, e.at"
    };
}
pub(super) use event_columns;

/// Columns of [`trace`], of `traces AS t` with its root, `tasks AS r`.
macro_rules! trace_columns {
    () => {
        "t.trace_id, t.root_task_id, t.definition_id, t.definition_version, t.user_id, t.trigger_type, t.triggered_by, t.idempotency_key, \
         t.labels, t.rerun_of, t.status, t.cancelling, t.count_pending, t.count_running, t.count_success, t.count_failed, \
         t.count_cancelled, t.count_skipped, t.last_seq, t.created_at, t.started_at, t.finished_at, \
         r.input_params, r.output, r.output_ref, r.error_code, r.error_message"
    };
}
pub(super) use trace_columns;

/// Columns of [`task`], of `tasks AS t` with its version of the definition and its place in the queue.
macro_rules! task_columns {
    () => {
        "t.id, t.trace_id, t.parent_id, t.job_id, t.definition_version, t.key, t.actor_type, coalesce(v.role, ''), t.layer, t.depth, \
         t.is_leaf_agent, t.round_index, t.state, t.cancelling, t.depends_on, t.run_on, t.open_deps, t.split_count, t.completed_children, \
         t.succeeded_children, t.priority, t.attempt, t.max_retries, t.timeout_sec, t.run_after, q.owner, q.lease_until, t.fence, \
         t.input_params, t.output, t.output_ref, t.progress, t.progress_message, t.error_code, t.error_message, t.started_at, \
         t.finished_at, t.created_at, t.updated_at"
    };
}
pub(super) use task_columns;

/// What [`task_columns`] needs beside `tasks AS t`.
macro_rules! task_joins {
    () => {
        " LEFT JOIN queue AS q ON q.task_id = t.id \
         LEFT JOIN definition_versions AS v ON v.definition_id = t.job_id AND v.version = t.definition_version "
    };
}
pub(super) use task_joins;

statements! {
    TRACE = concat!("SELECT ", trace_columns!(), " FROM traces AS t CROSS JOIN tasks AS r ON r.id = t.root_task_id WHERE t.trace_id = ?1");
    TASK = concat!("SELECT ", task_columns!(), " FROM tasks AS t", task_joins!(), "WHERE t.id = ?1");
    ANCESTORS = "WITH RECURSIVE up (id, parent_id) AS ( \
             SELECT t.id, t.parent_id FROM json_each(?1) AS i CROSS JOIN tasks AS t ON t.id = unhex(i.value) \
             UNION SELECT t.id, t.parent_id FROM up CROSS JOIN tasks AS t ON t.id = up.parent_id) \
         SELECT id, parent_id FROM up";
    ATTEMPTS = "SELECT fence, attempt, leg, host, started_at, finished_at, result, error_code, error_message \
         FROM attempts WHERE task_id = ?1 ORDER BY fence DESC LIMIT 200";
    EVENTS = concat!(
        "SELECT ", event_columns!(), " FROM events AS e CROSS JOIN tasks AS t ON t.id = e.task_id \
         WHERE e.trace_id = ?1 AND e.seq > ?2 ORDER BY e.seq LIMIT ?3"
    );
    // 12 is LOG.
    LOGS = concat!(
        "SELECT ", event_columns!(), " FROM events AS e INDEXED BY events_logs_by_trace CROSS JOIN tasks AS t ON t.id = e.task_id \
         WHERE e.trace_id = ?1 AND e.event_type = 12 AND e.seq > ?2 ORDER BY e.seq LIMIT ?3"
    );
    SUBTREE_SIZE = "WITH RECURSIVE below (id) AS (SELECT ?1 UNION ALL \
             SELECT c.id FROM below CROSS JOIN tasks AS c ON c.parent_id = below.id LIMIT ?2) \
         SELECT count(*) FROM below";
    // For small subtrees: from the tasks to their lines.
    LOGS_OF_FEW = concat!(
        "WITH RECURSIVE below (id) AS (SELECT ?4 UNION ALL SELECT c.id FROM below CROSS JOIN tasks AS c ON c.parent_id = below.id) \
         SELECT ", event_columns!(), " FROM below CROSS JOIN events AS e INDEXED BY events_logs_by_task ON e.task_id = below.id CROSS JOIN tasks AS t ON t.id = e.task_id \
         WHERE e.trace_id = ?1 AND e.event_type = 12 AND e.seq > ?2 ORDER BY e.seq LIMIT ?3"
    );
    // For large ones: from the trace's lines up to whoever stands above the task that wrote them.
    LOGS_OF_MANY = concat!(
        "SELECT ", event_columns!(), " FROM events AS e INDEXED BY events_logs_by_trace CROSS JOIN tasks AS t ON t.id = e.task_id \
         WHERE e.trace_id = ?1 AND e.event_type = 12 AND e.seq > ?2 AND EXISTS ( \
             WITH RECURSIVE up (id, parent_id) AS (SELECT t.id, t.parent_id UNION ALL \
                 SELECT p.id, p.parent_id FROM up CROSS JOIN tasks AS p ON p.id = up.parent_id) \
             SELECT 1 FROM up WHERE up.id = ?4) \
         ORDER BY e.seq LIMIT ?3"
    );
    CONTROL_EVENTS = "SELECT id, trace_id, task_id, action, triggered_by, reason, created_at \
         FROM control_events WHERE trace_id = ?1 ORDER BY id DESC LIMIT 1000";
    PING = "SELECT 1";
}

/// Tasks of a subtree up to which it is walked down for its lines.
const FEW_TASKS: u32 = 1_000;

#[async_trait]
impl Reader for SqliteStore {
    async fn trace(&self, id: TraceId) -> Result<Option<Trace>, StoreError> {
        let mut params = Params::new();
        params.id(id);
        let row = sqlx::query_with(TRACE, params.into_list()).fetch_optional(&mut *self.reader().await?).await?;
        row.as_ref().map(trace).transpose()
    }

    async fn traces(&self, filter: &TraceFilter, page: &PageRequest<TraceId>) -> Result<Page<Trace, TraceId>, StoreError> {
        lists::traces(&mut *self.reader().await?, filter, page).await
    }

    async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        let mut conn = self.reader().await?;
        let mut params = Params::new();
        params.id(id);
        let row = sqlx::query_with(TASK, params.into_list()).fetch_optional(&mut *conn).await?;
        Ok(tasks(&mut conn, row.as_slice()).await?.pop())
    }

    async fn tasks(&self, trace: TraceId, filter: &TaskFilter, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError> {
        lists::tasks(&mut *self.reader().await?, trace, filter, page).await
    }

    async fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError> {
        let mut params = Params::new();
        params.id(task);
        let rows = sqlx::query_with(ATTEMPTS, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().rev().map(attempt).collect()
    }

    async fn events(&self, trace: TraceId, after: u64, limit: u32) -> Result<Vec<TaskEvent>, StoreError> {
        let mut params = Params::new();
        params.id(trace).uint(after).int(limit);
        let rows = sqlx::query_with(EVENTS, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(event).collect()
    }

    async fn logs(&self, trace: TraceId, subtree: Option<TaskId>, after: u64, limit: u32) -> Result<Vec<TaskEvent>, StoreError> {
        let mut conn = self.reader().await?;
        let mut params = Params::new();
        params.id(trace).uint(after).int(limit);
        let statement = match subtree {
            None => LOGS,
            Some(task) => {
                let mut size = Params::new();
                size.id(task).int(FEW_TASKS + 1);
                let size: u32 = sqlx::query_scalar_with(SUBTREE_SIZE, size.into_list()).fetch_one(&mut *conn).await?;
                params.id(task);
                if size <= FEW_TASKS { LOGS_OF_FEW } else { LOGS_OF_MANY }
            }
        };
        let rows = sqlx::query_with(statement, params.into_list()).fetch_all(&mut *conn).await?;
        rows.iter().map(event).collect()
    }

    async fn child_results(&self, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
        results::of_children(&mut *self.reader().await?, task, after, limit).await
    }

    async fn dependency_results(&self, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
        results::of_dependencies(&mut *self.reader().await?, task, after, limit).await
    }

    async fn existing_children(&self, task: TaskId) -> Result<Vec<ExistingChild>, StoreError> {
        results::existing_children(&mut *self.reader().await?, task).await
    }

    async fn dead_letters(&self, open: bool, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError> {
        lists::dead_letters(&mut *self.reader().await?, open, page).await
    }

    async fn control_events(&self, trace: TraceId) -> Result<Vec<ControlEvent>, StoreError> {
        let mut params = Params::new();
        params.id(trace);
        let rows = sqlx::query_with(CONTROL_EVENTS, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().rev().map(control_event).collect()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query(PING).execute(&mut *self.reader().await?).await?;
        Ok(())
    }
}

/// Reads [`trace_columns`].
pub(super) fn trace(row: &SqliteRow) -> Result<Trace, StoreError> {
    let mut columns = Columns::of(row, "traces");
    let trace = Trace {
        trace_id: columns.id()?,
        root_task_id: columns.id()?,
        definition_id: columns.name()?,
        definition_version: columns.uint()?,
        user_id: columns.text()?,
        trigger_type: columns.word()?,
        triggered_by: columns.text()?,
        idempotency_key: columns.opt_text()?,
        labels: columns.read()?,
        rerun_of: columns.opt_id()?,
        status: columns.word()?,
        cancelling: columns.flag()?,
        counts: super::tx_read::counts(&mut columns)?,
        last_seq: columns.uint()?,
        created_at: columns.at()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        params: columns.json()?,
        output: columns.output()?,
        error: columns.error()?,
    };
    // The order outlives the trace in its row, but no longer is under way.
    Ok(Trace { cancelling: trace.cancelling && !trace.status.is_terminal(), ..trace })
}

/// Reads rows of [`task_columns`], and finds the paths to them.
pub(super) async fn tasks(conn: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Task>, StoreError> {
    let mut tasks: Vec<Task> = rows.iter().map(task).collect::<Result<_, _>>()?;
    let mut parents: Vec<TaskId> = tasks.iter().filter_map(|task| task.parent_id).collect();
    parents.sort_unstable();
    parents.dedup();
    let mut above: HashMap<TaskId, Option<TaskId>> = HashMap::new();
    if !parents.is_empty() {
        for row in &sqlx::query(ANCESTORS).bind(id_array(parents)).fetch_all(conn).await? {
            let mut columns = Columns::of(row, "tasks");
            above.insert(columns.id()?, columns.opt_id()?);
        }
    }
    for task in &mut tasks {
        let mut path = vec![task.id];
        let mut next = task.parent_id;
        while let Some(id) = next {
            path.push(id);
            // Each is taken once: a circle in a broken table ends.
            next = above.get(&id).copied().flatten().filter(|_| path.len() <= above.len() + 1);
        }
        task.node_path = format!("/{}/", task.trace_id);
        for id in path.into_iter().rev() {
            task.node_path.push_str(&format!("{id}/"));
        }
    }
    Ok(tasks)
}

fn task(row: &SqliteRow) -> Result<Task, StoreError> {
    let mut columns = Columns::of(row, "tasks");
    let (id, trace_id, parent_id, job_id, definition_version) = (columns.id()?, columns.id()?, columns.opt_id()?, columns.name()?, columns.uint()?);
    let (key, actor_type, role, layer, depth) = (columns.key()?, columns.word()?, columns.text()?, columns.uint()?, columns.uint()?);
    let (is_leaf_agent, round_index, State { status, phase }) = (columns.flag()?, columns.uint()?, columns.word()?);
    Ok(Task {
        id,
        trace_id,
        parent_id,
        job_id,
        definition_version,
        key,
        actor_type,
        role,
        layer,
        depth,
        is_leaf_agent,
        round_index,
        status,
        phase,
        cancelling: columns.flag()? && !status.is_terminal(),
        depends_on: columns.read()?,
        run_on: columns.word()?,
        open_deps: columns.uint()?,
        split_count: columns.uint()?,
        completed_children: columns.uint()?,
        succeeded_children: columns.uint()?,
        priority: columns.uint()?,
        attempt: columns.uint()?,
        max_retries: columns.uint()?,
        timeout_sec: columns.uint()?,
        run_after: columns.opt_at()?,
        lease_owner: columns.opt_text()?,
        lease_expires_at: columns.opt_at()?,
        fence: columns.uint()?,
        input_params: columns.json()?,
        output: columns.output()?,
        progress: columns.uint()?,
        progress_message: columns.text()?,
        error: columns.error()?,
        started_at: columns.opt_at()?,
        finished_at: columns.opt_at()?,
        created_at: columns.at()?,
        updated_at: columns.at()?,
        node_path: String::new(),
    })
}

/// Reads [`event_columns`].
pub(super) fn event(row: &SqliteRow) -> Result<TaskEvent, StoreError> {
    let mut columns = Columns::of(row, "events");
    Ok(TaskEvent {
        event_id: columns.opt_text()?,
        seq: columns.uint()?,
        trace_id: columns.id()?,
        task_id: columns.id()?,
        parent_id: columns.opt_id()?,
        actor_type: columns.word()?,
        event_type: columns.word()?,
        from: columns.opt_word()?,
        to: columns.opt_word()?,
        payload: columns.opt_json()?,
        at: columns.at()?,
    })
}

fn attempt(row: &SqliteRow) -> Result<Attempt, StoreError> {
    let mut columns = Columns::of(row, "attempts");
    Ok(Attempt {
        fence: columns.uint()?,
        attempt: columns.uint()?,
        leg: columns.word()?,
        host: columns.text()?,
        started_at: columns.at()?,
        finished_at: columns.at()?,
        result: columns.text()?,
        error: columns.error()?,
    })
}

fn control_event(row: &SqliteRow) -> Result<ControlEvent, StoreError> {
    let mut columns = Columns::of(row, "control_events");
    Ok(ControlEvent {
        id: columns.id()?,
        trace_id: columns.id()?,
        task_id: columns.opt_id()?,
        action: columns.word()?,
        triggered_by: columns.text()?,
        reason: columns.text()?,
        created_at: columns.at()?,
    })
}
