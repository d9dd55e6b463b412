//! An open transaction, as `apply` uses it. The statements are in `tx_read`, `tx_write` and `tx_queue`.

use std::borrow::Cow;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{AssertSqlSafe, Sqlite, SqliteConnection};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::{Control, ControlEvent, ScheduleOrder};
use tower_domain::event::TaskEvent;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::limit::{Gate, Limits};
use tower_domain::name::Name;
use tower_domain::schedule::Schedule;
use tower_domain::task::Attempt;

use super::rows::Params;
use super::{schedules, sessions, tx_gates, tx_queue, tx_read, tx_write};
use crate::StoreError;
use crate::apply::tx::{GateRow, KnownKey, NewTask, NewTraceRow, OldTask, ParkedTask, QueueRow, RoundRow, StepInput, TaskRow, TaskWrites, TraceRow, Tx};
use crate::fault::{self, Guard, Point};

/// A transaction under way.
///
/// Each statement that is waited for costs a way to SQLite's thread and back, as much as what a small one does there. So statements
/// that answer nothing are staged, and go with the next one that does, as one text: BEGIN with the first, COMMIT with the last.
/// Parameters are counted through such a text, so its statements must not number theirs.
pub(super) struct SqliteTx<'a> {
    conn: &'a mut SqliteConnection,
    /// Statements that have not run yet.
    text: Cow<'static, str>,
    /// Their parameters.
    pub(super) params: Params,
    /// Whether nothing in the queue waits for its time, for all that was committed and staged; else it may, or not.
    pub(super) nothing_waits: bool,
    /// Statements up to now.
    pub(super) statements: u64,
}

impl<'a> SqliteTx<'a> {
    /// Begins a transaction, with the first statement that is waited for.
    pub(super) fn begin(conn: &'a mut SqliteConnection, nothing_waits: bool) -> Self {
        Self { conn, text: Cow::Borrowed("BEGIN IMMEDIATE"), params: Params::new(), nothing_waits, statements: 0 }
    }

    /// Stages a statement whose parameters are in [`Self::params`] already.
    pub(super) fn stage(&mut self, statement: &'static str) {
        self.statements += 1;
        if self.text.is_empty() {
            self.text = Cow::Borrowed(statement);
        } else {
            let text = self.text.to_mut();
            text.push_str("; ");
            text.push_str(statement);
        }
    }

    /// Runs what is staged.
    pub(super) async fn run(&mut self) -> Result<(), StoreError> {
        if !self.text.is_empty() {
            self.take().execute(&mut *self.conn).await?;
        }
        Ok(())
    }

    /// Runs what is staged, and then this, and answers its rows. Its parameters are in [`Self::params`] already.
    pub(super) async fn fetch(&mut self, statement: &'static str) -> Result<Vec<SqliteRow>, StoreError> {
        self.stage(statement);
        Ok(self.take().fetch_all(&mut *self.conn).await?)
    }

    /// Runs what is staged, and makes all of it durable.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.stage("COMMIT");
        self.run().await
    }

    fn take(&mut self) -> Query<'static, Sqlite, SqliteArguments> {
        let params = std::mem::take(&mut self.params).into_list();
        match std::mem::take(&mut self.text) {
            Cow::Borrowed(text) => sqlx::query_with(text, params),
            // Made of the statements in this folder and nothing else.
            Cow::Owned(text) => sqlx::query_with(AssertSqlSafe(text), params),
        }
    }
}

#[async_trait]
impl Tx for SqliteTx<'_> {
    async fn lock(&mut self, _tasks: &[TaskId], _traces: &[TraceId], _schedules: &[Name]) -> Result<Option<Timestamp>, StoreError> {
        // Nobody else writes.
        Ok(None)
    }

    async fn tasks(&mut self, ids: &[TaskId]) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::tasks(self, ids).await
    }

    async fn traces(&mut self, ids: &[TraceId]) -> Result<Vec<TraceRow>, StoreError> {
        tx_read::traces(self, ids).await
    }

    async fn dependents(&mut self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
        tx_read::dependents(self, ids).await
    }

    async fn children(&mut self, parent: TaskId) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::children(self, parent).await
    }

    async fn open_tasks(&mut self, trace: TraceId, subtree: Option<TaskId>) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::open_tasks(self, trace, subtree).await
    }

    async fn busy_tasks(&mut self, trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::busy_tasks(self, trace).await
    }

    async fn idle_tasks(&mut self, trace: TraceId, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::idle_tasks(self, trace, limit).await
    }

    async fn unswept(&mut self, limit: u32) -> Result<Vec<TraceId>, StoreError> {
        tx_read::unswept(self, limit).await
    }

    async fn old_tasks(&mut self, trace: TraceId, parents: Option<&[TaskId]>) -> Result<Vec<OldTask>, StoreError> {
        tx_read::old_tasks(self, trace, parents).await
    }

    async fn spoilt_tasks(&mut self, trace: TraceId, and: Option<TaskId>) -> Result<Vec<TaskId>, StoreError> {
        tx_read::spoilt_tasks(self, trace, and).await
    }

    async fn insert_traces(&mut self, rows: &[NewTraceRow]) -> Result<(), StoreError> {
        tx_write::insert_traces(self, rows).await
    }

    async fn update_traces(&mut self, rows: &[TraceRow]) -> Result<(), StoreError> {
        tx_write::update_traces(self, rows).await
    }

    async fn insert_tasks(&mut self, rows: &[NewTask]) -> Result<(), StoreError> {
        tx_write::insert_tasks(self, rows).await
    }

    async fn update_tasks(&mut self, rows: &[(TaskRow, TaskWrites)], now: Timestamp) -> Result<(), StoreError> {
        tx_write::update_tasks(self, rows, now).await
    }

    async fn put_queue(&mut self, rows: &[QueueRow]) -> Result<(), StoreError> {
        tx_queue::put(self, rows).await
    }

    async fn delete_queue(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        tx_queue::delete(self, ids);
        Ok(())
    }

    async fn ready(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::ready(self, limit).await
    }

    async fn fair(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::fair(self, limit).await
    }

    async fn due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        tx_queue::due(self, now, limit).await
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        tx_queue::next_due(self).await
    }

    async fn claimed_by(&mut self, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        tx_queue::claimed_by(self, host, limit).await
    }

    async fn overdue(&mut self, now: Timestamp, limit: u32) -> Result<Vec<(TaskId, String)>, StoreError> {
        tx_queue::overdue(self, now, limit).await
    }

    async fn renew(&mut self, host: &str, ids: &[TaskId], until: Timestamp) -> Result<(), StoreError> {
        tx_queue::renew(self, host, ids, until);
        Ok(())
    }

    async fn gates(&mut self, gates: &[Gate]) -> Result<Vec<GateRow>, StoreError> {
        tx_gates::gates(self, gates).await
    }

    async fn put_gates(&mut self, rows: &[GateRow]) -> Result<(), StoreError> {
        tx_gates::put(self, rows).await
    }

    async fn delete_gates(&mut self, gates: &[Gate]) -> Result<(), StoreError> {
        tx_gates::delete(self, gates);
        Ok(())
    }

    async fn opening(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Gate>, StoreError> {
        tx_gates::opening(self, now, limit).await
    }

    async fn parked(&mut self, gates: &[Gate], each: u32) -> Result<Vec<ParkedTask>, StoreError> {
        tx_gates::parked(self, gates, each).await
    }

    async fn limits(&mut self, definitions: &[Name]) -> Result<Vec<(Name, Limits)>, StoreError> {
        tx_gates::limits(self, definitions).await
    }

    async fn ready_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::ready_in(self, lane, limit).await
    }

    async fn fair_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::fair_in(self, lane, limit).await
    }

    async fn held(&mut self, host: &str, ids: &[TaskId]) -> Result<Vec<(TaskId, Control, Option<String>)>, StoreError> {
        tx_queue::held(self, host, ids).await
    }

    async fn step_inputs(&mut self, rows: &[TaskRow]) -> Result<Vec<StepInput>, StoreError> {
        tx_queue::step_inputs(self, rows).await
    }

    async fn insert_events(&mut self, events: &[TaskEvent]) -> Result<(), StoreError> {
        tx_write::insert_events(self, events).await
    }

    async fn known_events(&mut self, ids: &[String]) -> Result<Vec<TaskEvent>, StoreError> {
        tx_read::known_events(self, ids).await
    }

    async fn insert_attempts(&mut self, rows: &[(TaskId, Attempt)]) -> Result<(), StoreError> {
        tx_write::insert_attempts(self, rows).await
    }

    async fn insert_control_event(&mut self, order: &ControlEvent) -> Result<(), StoreError> {
        tx_write::insert_control_event(self, order);
        Ok(())
    }

    async fn insert_rounds(&mut self, rows: &[RoundRow]) -> Result<(), StoreError> {
        tx_write::insert_rounds(self, rows).await
    }

    async fn copy_rounds(&mut self, from: TaskId, to: TaskId) -> Result<(), StoreError> {
        tx_write::copy_rounds(self, from, to);
        Ok(())
    }

    async fn known_keys(&mut self, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError> {
        tx_read::known_keys(self, keys, not_before).await
    }

    async fn insert_key(&mut self, key: &KnownKey, now: Timestamp) -> Result<(), StoreError> {
        tx_write::insert_key(self, key, now);
        Ok(())
    }

    async fn delete_keys(&mut self, not_before: Timestamp, limit: u32) -> Result<(), StoreError> {
        tx_write::delete_keys(self, not_before, limit);
        Ok(())
    }

    async fn schedules(&mut self, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError> {
        schedules::many(self, definitions).await
    }

    async fn put_schedules(&mut self, rows: &[Schedule]) -> Result<(), StoreError> {
        schedules::put(self, rows).await
    }

    async fn insert_fires(&mut self, rows: &[(Name, Timestamp, TraceId)]) -> Result<(), StoreError> {
        schedules::insert_fires(self, rows).await
    }

    async fn release_schedules(&mut self, ended: &[TraceId], now: Timestamp) -> Result<(), StoreError> {
        schedules::release(self, ended, now);
        Ok(())
    }

    async fn insert_schedule_order(&mut self, order: &ScheduleOrder) -> Result<(), StoreError> {
        schedules::insert_order(self, order);
        Ok(())
    }

    async fn use_session(&mut self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        sessions::use_session(self, id, now).await
    }

    async fn set_sdk_session(&mut self, id: SessionId, sdk: &str) -> Result<(), StoreError> {
        sessions::set_sdk_session(self, id, sdk);
        Ok(())
    }

    async fn between(&mut self, point: Point) -> Result<(), StoreError> {
        let cut = !fault::is_on(Guard::Atomic);
        if cut {
            self.stage("COMMIT; BEGIN IMMEDIATE");
        }
        if cut || fault::is_armed(point) {
            self.run().await?;
        }
        fault::point(point).await
    }
}
