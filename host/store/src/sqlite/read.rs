//! What readers ask about one thing: a trace, a task, its history.

use async_trait::async_trait;
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::limit::Gate;
use tower_domain::name::Key;
use tower_domain::split::ExistingChild;
use tower_domain::step::ResultPage;
use tower_domain::task::{Attempt, Round, Task};
use tower_domain::trace::Trace;

use super::near::query;
use super::nouns::tasks;
use super::rows::{Bind, Binder, Params};
use super::{SqliteStore, lists, results, statements, tx_gates, tx_queue};
use crate::StoreError;
use crate::read::{DeadLetterFilter, DeadLetterGroup, GroupBy, KeyUse, LaneUse, LimitUse, Page, PageRequest, Reader, TaskFilter, TraceFilter};
use crate::rows::nouns::{attempt, control_event, event, event_columns, key_use, task_columns, task_joins, trace, trace_columns};

statements! {
    TRACE = concat!("SELECT ", trace_columns!(), " FROM traces AS t CROSS JOIN tasks AS r ON r.id = t.root_task_id WHERE t.trace_id = ?1");
    TASK = concat!("SELECT ", task_columns!(), " FROM tasks AS t", task_joins!(), "WHERE t.id = ?1");
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
    KEY_USE = "SELECT fingerprint, trace_id, root_task_id FROM idempotency_keys WHERE key = ?1 AND created_at >= ?2";
    PING = "SELECT 1";
}

/// Tasks of a subtree up to which it is walked down for its lines.
const FEW_TASKS: u32 = 1_000;

#[async_trait]
impl Reader for SqliteStore {
    async fn trace(&self, id: TraceId) -> Result<Option<Trace>, StoreError> {
        let bind = |params: &mut Binder<'_, '_>| {
            params.id(id);
        };
        self.near(|conn| Ok(query(conn, TRACE, bind, |row| trace(row))?.pop())).await
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

    async fn rounds(&self, task: TaskId, page: &PageRequest<u32>) -> Result<Page<Round, u32>, StoreError> {
        lists::rounds(&mut *self.reader().await?, task, page).await
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
        self.near_page(|conn| results::of_children(conn, task, after, limit)).await
    }

    async fn dependency_results(&self, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
        self.near_page(|conn| results::of_dependencies(conn, task, after, limit)).await
    }

    async fn open_dependencies(&self, task: TaskId, limit: u32) -> Result<Vec<Key>, StoreError> {
        results::open_dependencies(&mut *self.reader().await?, task, limit).await
    }

    async fn existing_children(&self, task: TaskId) -> Result<Vec<ExistingChild>, StoreError> {
        results::existing_children(&mut *self.reader().await?, task).await
    }

    async fn dead_letters(&self, filter: &DeadLetterFilter, page: &PageRequest<TaskId>) -> Result<Page<Task, TaskId>, StoreError> {
        lists::dead_letters(&mut *self.reader().await?, filter, page).await
    }

    async fn dead_letter_groups(&self, filter: &DeadLetterFilter, by: GroupBy) -> Result<Vec<DeadLetterGroup>, StoreError> {
        lists::dead_letter_groups(&mut *self.reader().await?, filter, by).await
    }

    async fn limits(&self, page: &PageRequest<Gate>) -> Result<Page<LimitUse, Gate>, StoreError> {
        tx_gates::in_use(&mut *self.reader().await?, page).await
    }

    async fn lanes(&self) -> Result<Vec<LaneUse>, StoreError> {
        tx_queue::lanes(&mut *self.reader().await?).await
    }

    async fn control_events(&self, trace: TraceId) -> Result<Vec<ControlEvent>, StoreError> {
        let mut params = Params::new();
        params.id(trace);
        let rows = sqlx::query_with(CONTROL_EVENTS, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().rev().map(control_event).collect()
    }

    async fn key_use(&self, key: &str, not_before: Timestamp) -> Result<Option<KeyUse>, StoreError> {
        let mut params = Params::new();
        params.text(key).at(not_before);
        let row = sqlx::query_with(KEY_USE, params.into_list()).fetch_optional(&mut *self.reader().await?).await?;
        row.as_ref().map(key_use).transpose()
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query(PING).execute(&mut *self.reader().await?).await?;
        Ok(())
    }
}
