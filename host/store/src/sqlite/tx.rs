//! An open transaction, as `apply` uses it. The statements are in `tx_read`, `tx_write` and `tx_queue`.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use tower_domain::clock::Timestamp;
use tower_domain::control::ControlEvent;
use tower_domain::event::TaskEvent;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::task::Attempt;

use super::{tx_queue, tx_read, tx_write};
use crate::StoreError;
use crate::apply::tx::{KnownKey, NewTask, NewTraceRow, OldTask, QueueRow, StepInput, TaskRow, TaskWrites, TraceRow, Tx};

/// A connection between BEGIN and COMMIT.
pub(super) struct SqliteTx<'a> {
    conn: &'a mut SqliteConnection,
}

impl<'a> SqliteTx<'a> {
    /// A transaction must be open on the connection.
    pub(super) fn new(conn: &'a mut SqliteConnection) -> Self {
        Self { conn }
    }
}

#[async_trait]
impl Tx for SqliteTx<'_> {
    async fn tasks(&mut self, ids: &[TaskId]) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::tasks(self.conn, ids).await
    }

    async fn traces(&mut self, ids: &[TraceId]) -> Result<Vec<TraceRow>, StoreError> {
        tx_read::traces(self.conn, ids).await
    }

    async fn dependents(&mut self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
        tx_read::dependents(self.conn, ids).await
    }

    async fn children(&mut self, parent: TaskId) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::children(self.conn, parent).await
    }

    async fn open_tasks(&mut self, trace: TraceId, subtree: Option<TaskId>) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::open_tasks(self.conn, trace, subtree).await
    }

    async fn old_tasks(&mut self, trace: TraceId, parents: Option<&[TaskId]>) -> Result<Vec<OldTask>, StoreError> {
        tx_read::old_tasks(self.conn, trace, parents).await
    }

    async fn insert_traces(&mut self, rows: &[NewTraceRow]) -> Result<(), StoreError> {
        tx_write::insert_traces(self.conn, rows).await
    }

    async fn update_traces(&mut self, rows: &[TraceRow]) -> Result<(), StoreError> {
        tx_write::update_traces(self.conn, rows).await
    }

    async fn insert_tasks(&mut self, rows: &[NewTask]) -> Result<(), StoreError> {
        tx_write::insert_tasks(self.conn, rows).await
    }

    async fn update_tasks(&mut self, rows: &[(TaskRow, TaskWrites)], now: Timestamp) -> Result<(), StoreError> {
        tx_write::update_tasks(self.conn, rows, now).await
    }

    async fn put_queue(&mut self, rows: &[QueueRow]) -> Result<(), StoreError> {
        tx_queue::put(self.conn, rows).await
    }

    async fn delete_queue(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        tx_queue::delete(self.conn, ids).await
    }

    async fn ready(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::ready(self.conn, limit).await
    }

    async fn due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        tx_queue::due(self.conn, now, limit).await
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        tx_queue::next_due(self.conn).await
    }

    async fn claimed_by(&mut self, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        tx_queue::claimed_by(self.conn, host, limit).await
    }

    async fn overdue(&mut self, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        tx_queue::overdue(self.conn, now, limit).await
    }

    async fn renew(&mut self, host: &str, until: Timestamp) -> Result<(), StoreError> {
        tx_queue::renew(self.conn, host, until).await
    }

    async fn step_inputs(&mut self, rows: &[TaskRow]) -> Result<Vec<StepInput>, StoreError> {
        tx_queue::step_inputs(self.conn, rows).await
    }

    async fn insert_events(&mut self, events: &[TaskEvent]) -> Result<(), StoreError> {
        tx_write::insert_events(self.conn, events).await
    }

    async fn known_events(&mut self, ids: &[String]) -> Result<Vec<TaskEvent>, StoreError> {
        tx_read::known_events(self.conn, ids).await
    }

    async fn insert_attempts(&mut self, rows: &[(TaskId, Attempt)]) -> Result<(), StoreError> {
        tx_write::insert_attempts(self.conn, rows).await
    }

    async fn insert_control_event(&mut self, order: &ControlEvent) -> Result<(), StoreError> {
        tx_write::insert_control_event(self.conn, order).await
    }

    async fn known_keys(&mut self, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError> {
        tx_read::known_keys(self.conn, keys, not_before).await
    }

    async fn insert_key(&mut self, key: &KnownKey, now: Timestamp) -> Result<(), StoreError> {
        tx_write::insert_key(self.conn, key, now).await
    }
}
