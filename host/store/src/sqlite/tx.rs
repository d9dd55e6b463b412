//! An open transaction, as `apply` uses it. The statements are in `tx_read`, `tx_write` and `tx_queue`.

use std::collections::HashMap;

use async_trait::async_trait;
use rusqlite::{Connection, Row};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::control::{Control, ControlEvent, ScheduleOrder};
use tower_domain::event::TaskEvent;
use tower_domain::id::{SessionId, TaskId, TraceId};
use tower_domain::limit::{Gate, Limits};
use tower_domain::name::Name;
use tower_domain::schedule::Schedule;
use tower_domain::task::Attempt;

use super::rows::{Bind, Binder, Id};
use super::{near, schedules, sessions, tx_gates, tx_queue, tx_read, tx_write};
use crate::StoreError;
use crate::apply::tx::{GateRow, KnownKey, NewTask, NewTraceRow, OldTask, ParkedTask, QueueRow, RoundRow, StepInput, TaskRow, TaskWrites, TraceRow, Tx};
use crate::fault::{self, Guard, Point};

/// A transaction under way. Dropped before its end, it is undone.
///
/// A batch is some twenty statements, each of which takes SQLite microseconds: as much as handing it to another thread and waiting for the
/// answer. So they run where they are asked for, and nothing here ever waits for anything but the disk.
pub(super) struct SqliteTx<'a> {
    conn: &'a mut Connection,
    open: bool,
    /// Tasks that are claimed, as they are in the database with all that was written: nobody else writes, and each is wanted again as it ends.
    pub(super) claimed: &'a mut HashMap<TaskId, TaskRow>,
    /// Whether the clock says less than it did: then it is looked when a trace was changed last, so that what happens to it happens in order.
    pub(super) is_set_back: bool,
    /// Whether nothing in the queue waits for its time, for all that was committed and written; else it may, or not.
    pub(super) nothing_waits: bool,
    /// Statements that were run up to now, one for each row that is written or looked for by its id; not that which began it.
    pub(super) statements: u64,
}

impl<'a> SqliteTx<'a> {
    /// Begins a transaction: takes the write lock of the database.
    pub(super) fn begin(conn: &'a mut Connection, claimed: &'a mut HashMap<TaskId, TaskRow>, nothing_waits: bool) -> Result<Self, StoreError> {
        let mut tx = Self { conn, open: false, claimed, is_set_back: false, nothing_waits, statements: 0 };
        tx.execute("BEGIN IMMEDIATE", |_| ())?;
        (tx.open, tx.statements) = (true, 0);
        Ok(tx)
    }

    /// Runs a statement that answers nothing.
    pub(super) fn execute(&mut self, statement: &str, bind: impl FnOnce(&mut Binder<'_, '_>)) -> Result<(), StoreError> {
        self.statements += 1;
        let mut statement = self.conn.prepare_cached(statement)?;
        let mut params = Binder::of(&mut statement);
        bind(&mut params);
        params.end()?;
        statement.raw_execute()?;
        Ok(())
    }

    /// Runs a statement, and reads each row of its answer.
    pub(super) fn query<T>(
        &mut self,
        statement: &str,
        bind: impl FnOnce(&mut Binder<'_, '_>),
        read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.statements += 1;
        near::query(self.conn, statement, bind, read)
    }

    /// Runs a statement for each of some rows: no way there and back lies between them, so that nothing is gained by a statement over many.
    pub(super) fn execute_each<T>(&mut self, statement: &str, rows: &[T], bind: impl Fn(&mut Binder<'_, '_>, &T)) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.statements += rows.len() as u64;
        let mut statement = self.conn.prepare_cached(statement)?;
        for row in rows {
            let mut params = Binder::of(&mut statement);
            bind(&mut params, row);
            params.end()?;
            statement.raw_execute()?;
        }
        Ok(())
    }

    /// Runs a statement for each of some ids, and reads each row of its answers.
    pub(super) fn query_each<I: Id, T>(
        &mut self,
        statement: &str,
        ids: &[I],
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.statements += ids.len() as u64;
        let (mut statement, mut found) = (self.conn.prepare_cached(statement)?, Vec::with_capacity(ids.len()));
        for id in ids {
            let mut params = Binder::of(&mut statement);
            params.id(*id);
            params.end()?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                found.push(read(row)?);
            }
        }
        Ok(found)
    }

    /// Makes all of it durable.
    pub(super) fn commit(mut self) -> Result<(), StoreError> {
        self.execute("COMMIT", |_| ())?;
        self.open = false;
        Ok(())
    }
}

impl Drop for SqliteTx<'_> {
    fn drop(&mut self) {
        if self.open {
            self.claimed.clear();
            // Where SQLite has rolled back by itself (full disk, I/O error) there is nothing to undo, and this fails.
            let undone = self.conn.execute_batch("ROLLBACK");
            tracing::debug!(undone = undone.is_ok(), "transaction rolled back");
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
        tx_read::tasks(self, ids)
    }

    async fn traces(&mut self, ids: &[TraceId]) -> Result<Vec<TraceRow>, StoreError> {
        tx_read::traces(self, ids)
    }

    async fn dependents(&mut self, ids: &[TaskId]) -> Result<Vec<(TaskId, TaskId)>, StoreError> {
        tx_read::dependents(self, ids)
    }

    async fn children(&mut self, parent: TaskId) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::children(self, parent)
    }

    async fn open_tasks(&mut self, trace: TraceId, subtree: Option<TaskId>) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::open_tasks(self, trace, subtree)
    }

    async fn busy_tasks(&mut self, trace: TraceId) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::busy_tasks(self, trace)
    }

    async fn idle_tasks(&mut self, trace: TraceId, limit: u32) -> Result<Vec<TaskRow>, StoreError> {
        tx_read::idle_tasks(self, trace, limit)
    }

    async fn unswept(&mut self, limit: u32) -> Result<Vec<TraceId>, StoreError> {
        tx_read::unswept(self, limit)
    }

    async fn old_tasks(&mut self, trace: TraceId, parents: Option<&[TaskId]>) -> Result<Vec<OldTask>, StoreError> {
        tx_read::old_tasks(self, trace, parents)
    }

    async fn spoilt_tasks(&mut self, trace: TraceId, and: Option<TaskId>) -> Result<Vec<TaskId>, StoreError> {
        tx_read::spoilt_tasks(self, trace, and)
    }

    async fn insert_traces(&mut self, rows: &[NewTraceRow]) -> Result<(), StoreError> {
        tx_write::insert_traces(self, rows)
    }

    async fn update_traces(&mut self, rows: &[TraceRow]) -> Result<(), StoreError> {
        tx_write::update_traces(self, rows)
    }

    async fn insert_tasks(&mut self, rows: &[NewTask]) -> Result<(), StoreError> {
        tx_write::insert_tasks(self, rows)
    }

    async fn update_tasks(&mut self, rows: &[(TaskRow, TaskWrites)], now: Timestamp) -> Result<(), StoreError> {
        tx_write::update_tasks(self, rows, now)
    }

    async fn put_queue(&mut self, rows: &[QueueRow]) -> Result<(), StoreError> {
        tx_queue::put(self, rows)
    }

    async fn delete_queue(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        tx_queue::delete(self, ids)
    }

    async fn ready(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::ready(self, limit)
    }

    async fn fair(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::fair(self, limit)
    }

    async fn due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        tx_queue::due(self, now, limit)
    }

    async fn next_due(&mut self) -> Result<Option<Timestamp>, StoreError> {
        tx_queue::next_due(self)
    }

    async fn claimed_by(&mut self, host: &str, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        tx_queue::claimed_by(self, host, limit)
    }

    async fn overdue(&mut self, now: Timestamp, limit: u32) -> Result<Vec<(TaskId, String)>, StoreError> {
        tx_queue::overdue(self, now, limit)
    }

    async fn renew(&mut self, host: &str, ids: &[TaskId], until: Timestamp) -> Result<(), StoreError> {
        tx_queue::renew(self, host, ids, until)
    }

    async fn gates(&mut self, gates: &[Gate]) -> Result<Vec<GateRow>, StoreError> {
        tx_gates::gates(self, gates)
    }

    async fn put_gates(&mut self, rows: &[GateRow]) -> Result<(), StoreError> {
        tx_gates::put(self, rows)
    }

    async fn delete_gates(&mut self, gates: &[Gate]) -> Result<(), StoreError> {
        tx_gates::delete(self, gates)
    }

    async fn opening(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Gate>, StoreError> {
        tx_gates::opening(self, now, limit)
    }

    async fn parked(&mut self, gates: &[Gate], each: u32) -> Result<Vec<ParkedTask>, StoreError> {
        tx_gates::parked(self, gates, each)
    }

    async fn limits(&mut self, definitions: &[Name]) -> Result<Vec<(Name, Limits)>, StoreError> {
        tx_gates::limits(self, definitions)
    }

    async fn ready_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::ready_in(self, lane, limit)
    }

    async fn fair_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        tx_queue::fair_in(self, lane, limit)
    }

    async fn held(&mut self, host: &str, ids: &[TaskId]) -> Result<Vec<(TaskId, Control, Option<String>)>, StoreError> {
        tx_queue::held(self, host, ids)
    }

    async fn step_inputs(&mut self, rows: &[TaskRow]) -> Result<Vec<StepInput>, StoreError> {
        tx_queue::step_inputs(self, rows)
    }

    async fn insert_events(&mut self, events: &[TaskEvent]) -> Result<(), StoreError> {
        tx_write::insert_events(self, events)
    }

    async fn known_events(&mut self, ids: &[String]) -> Result<Vec<TaskEvent>, StoreError> {
        tx_read::known_events(self, ids)
    }

    async fn insert_attempts(&mut self, rows: &[(TaskId, Attempt)]) -> Result<(), StoreError> {
        tx_write::insert_attempts(self, rows)
    }

    async fn insert_control_event(&mut self, order: &ControlEvent) -> Result<(), StoreError> {
        tx_write::insert_control_event(self, order)
    }

    async fn insert_rounds(&mut self, rows: &[RoundRow]) -> Result<(), StoreError> {
        tx_write::insert_rounds(self, rows)
    }

    async fn copy_rounds(&mut self, from: TaskId, to: TaskId) -> Result<(), StoreError> {
        tx_write::copy_rounds(self, from, to)
    }

    async fn known_keys(&mut self, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError> {
        tx_read::known_keys(self, keys, not_before)
    }

    async fn insert_key(&mut self, key: &KnownKey, now: Timestamp) -> Result<(), StoreError> {
        tx_write::insert_key(self, key, now)
    }

    async fn delete_keys(&mut self, not_before: Timestamp, limit: u32) -> Result<(), StoreError> {
        tx_write::delete_keys(self, not_before, limit)
    }

    async fn schedules(&mut self, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError> {
        schedules::many(self, definitions)
    }

    async fn put_schedules(&mut self, rows: &[Schedule]) -> Result<(), StoreError> {
        schedules::put(self, rows)
    }

    async fn insert_fires(&mut self, rows: &[(Name, Timestamp, TraceId)]) -> Result<(), StoreError> {
        schedules::insert_fires(self, rows)
    }

    async fn release_schedules(&mut self, ended: &[TraceId], now: Timestamp) -> Result<(), StoreError> {
        schedules::release(self, ended, now)
    }

    async fn insert_schedule_order(&mut self, order: &ScheduleOrder) -> Result<(), StoreError> {
        schedules::insert_order(self, order)
    }

    async fn use_session(&mut self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        sessions::use_session(self, id, now)
    }

    async fn set_sdk_session(&mut self, id: SessionId, sdk: &str) -> Result<(), StoreError> {
        sessions::set_sdk_session(self, id, sdk)
    }

    async fn between(&mut self, point: Point) -> Result<(), StoreError> {
        if !fault::is_on(Guard::Atomic) {
            self.conn.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        }
        fault::point(point).await
    }
}
