//! An open transaction, as `apply` uses it. The statements are in `tx_read`, `tx_write` and `tx_queue`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Transaction};
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
use super::values::{Write, as_one};
use super::writers::answered;
use super::{Seen, Time};
use super::{schedules, sessions, tx_gates, tx_queue, tx_read, tx_write};
use crate::StoreError;
use crate::apply::tx::{
    GateRow, KnownKey, NewTask, NewTraceRow, OldTask, ParkedTask, QueuePlace, QueueRow, RoundRow, StepInput, TaskRow, TaskWrites, TraceRow, Tx,
};
use crate::fault::{self, Guard, Point};

/// A transaction under way.
pub(super) struct PgTx {
    conn: Transaction<'static, Postgres>,
    /// Traces that this transaction has locked.
    pub(super) locked: HashSet<TraceId>,
    /// Rows of traces as they were when they were locked, for whoever asks next. Nothing has changed them since: only those who asked can.
    pub(super) traces: HashMap<TraceId, TraceRow>,
    /// Callers' keys that go with the next traces.
    pub(super) keys: Vec<KnownKey>,
    /// Keys older than this may be taken again.
    pub(super) keys_not_before: Timestamp,
    /// Whether this transaction has the lock of all gates.
    pub(super) holds_gates: bool,
    /// Whether it came to a gate.
    pub(super) comes_to_gates: bool,
    /// What is known of the queue: before [`Tx::next_due`] what the batch before saw, then what this one does.
    pub(super) seen: Option<Seen>,
    /// Whether a lane was passed over since nothing was known to wait in any.
    pub(super) skipped_elsewhere: bool,
    pub(super) has_own_time: bool,
    /// What is written before anything is read, in one way to the database.
    pub(super) waiting: Vec<Write>,
    /// Where tasks go with what waits: out of the queue, where there is no place.
    pub(super) moving: Vec<(TaskId, Option<QueuePlace>)>,
    /// Statements up to now.
    pub(super) statements: u64,
    /// How long an answer is waited for.
    patience: Duration,
}

impl PgTx {
    /// Takes over a transaction that was just begun. With `holds_gates` it is to take the lock of all gates first.
    pub(super) fn new(conn: Transaction<'static, Postgres>, time: Time, patience: Duration, holds_gates: bool, seen: Option<Seen>) -> Self {
        Self {
            conn,
            locked: HashSet::new(),
            traces: HashMap::new(),
            keys: Vec::new(),
            keys_not_before: Timestamp::from_micros(i64::MAX),
            holds_gates,
            comes_to_gates: false,
            seen,
            skipped_elsewhere: false,
            has_own_time: time == Time::OfDatabase,
            waiting: Vec::new(),
            moving: Vec::new(),
            statements: 0,
            patience,
        }
    }

    /// Whether nothing in the queue, and no gate, can have come to its time.
    pub(super) fn nothing_is_due(&self, now: Timestamp) -> bool {
        self.seen.is_some_and(|seen| seen.next_due.is_none_or(|due| due > now))
    }

    /// Whether nothing can be claimed in any lane of its own. Notes that nobody looked, if so.
    fn nothing_elsewhere(&mut self) -> bool {
        let nothing = self.seen.is_some_and(|seen| !seen.elsewhere);
        self.skipped_elsewhere |= nothing;
        nothing
    }

    /// Whether rows of this table wait to be written.
    pub(super) fn waits_for(&self, table: &str) -> bool {
        self.waiting.iter().any(|write| write.table() == table)
    }

    /// Notes where tasks go, if that waits.
    fn moving(&mut self, moving: impl Iterator<Item = (TaskId, Option<QueuePlace>)>) {
        if self.waits_for("queue") {
            self.moving.extend(moving);
        }
    }

    /// Whether nothing can be claimed by this process.
    fn nothing_is_ready(&self) -> bool {
        self.seen.is_some_and(|seen| !seen.ready)
    }

    /// Writes what waits, and runs one that reads, which sees nothing of it.
    pub(super) async fn fetch_beside(&mut self, read: Write) -> Result<Vec<PgRow>, StoreError> {
        self.moving.clear();
        self.waiting.push(read);
        let (statement, params) = as_one(std::mem::take(&mut self.waiting));
        self.ask(statement, params).await
    }

    /// Writes what waits, all in one statement. Answers how many rows the last of them wrote.
    pub(super) async fn write(&mut self) -> Result<u64, StoreError> {
        if self.waiting.is_empty() {
            return Ok(0);
        }
        self.moving.clear();
        let (statement, params) = as_one(std::mem::take(&mut self.waiting));
        self.send(statement, params).await
    }

    /// Runs a statement, and answers how many rows it wrote.
    pub(super) async fn execute(&mut self, statement: &'static str, params: Params) -> Result<u64, StoreError> {
        self.write().await?;
        self.send(statement, params).await
    }

    async fn send(&mut self, statement: &'static str, params: Params) -> Result<u64, StoreError> {
        self.statements += 1;
        let done = answered(self.patience, sqlx::query_with(statement, params.into_list()).execute(&mut *self.conn)).await?;
        Ok(done.rows_affected())
    }

    /// Runs a statement, and answers its rows.
    pub(super) async fn fetch(&mut self, statement: &'static str, params: Params) -> Result<Vec<PgRow>, StoreError> {
        self.write().await?;
        self.ask(statement, params).await
    }

    async fn ask(&mut self, statement: &'static str, params: Params) -> Result<Vec<PgRow>, StoreError> {
        self.statements += 1;
        answered(self.patience, sqlx::query_with(statement, params.into_list()).fetch_all(&mut *self.conn)).await
    }

    /// Makes all of it durable.
    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.write().await?;
        answered(self.patience, self.conn.commit()).await
    }

    /// Undoes all of it.
    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        answered(self.patience, self.conn.rollback()).await
    }
}

#[async_trait]
impl Tx for PgTx {
    async fn lock(&mut self, tasks: &[TaskId], traces: &[TraceId], schedules: &[Name]) -> Result<Option<Timestamp>, StoreError> {
        if self.holds_gates {
            tx_gates::lock(self).await?;
        }
        let now = tx_read::lock(self, tasks, traces, schedules).await?;
        Ok(now.filter(|_| self.has_own_time))
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
        if let Some(seen) = &mut self.seen {
            seen.ready |= rows.iter().any(|row| row.place.lane() == Some(&Lane::Process));
            seen.elsewhere |= rows.iter().any(|row| row.place.lane().is_some_and(|lane| *lane != Lane::Process));
        }
        tx_queue::put(self, rows).await?;
        self.moving(rows.iter().map(|row| (row.task_id, Some(row.place.clone()))));
        Ok(())
    }

    async fn delete_queue(&mut self, ids: &[TaskId]) -> Result<(), StoreError> {
        tx_queue::delete(self, ids).await?;
        self.moving(ids.iter().map(|id| (*id, None)));
        Ok(())
    }

    async fn ready(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        if self.nothing_is_ready() {
            return Ok(Vec::new());
        }
        tx_queue::ready(self, limit).await
    }

    async fn due(&mut self, now: Timestamp, limit: u32) -> Result<Vec<TaskId>, StoreError> {
        if self.nothing_is_due(now) {
            return Ok(Vec::new());
        }
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
        tx_queue::renew(self, host, ids, until).await
    }

    async fn fair(&mut self, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        if self.nothing_is_ready() {
            return Ok(Vec::new());
        }
        tx_queue::fair(self, limit).await
    }

    async fn ready_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        if self.nothing_elsewhere() {
            return Ok(Vec::new());
        }
        tx_queue::ready_in(self, lane, limit).await
    }

    async fn fair_in(&mut self, lane: &Lane, limit: u32) -> Result<Vec<(TaskId, u64)>, StoreError> {
        if self.nothing_elsewhere() {
            return Ok(Vec::new());
        }
        tx_queue::fair_in(self, lane, limit).await
    }

    async fn held(&mut self, host: &str, ids: &[TaskId]) -> Result<Vec<(TaskId, Control, Option<String>)>, StoreError> {
        tx_queue::held(self, host, ids).await
    }

    async fn gates(&mut self, gates: &[Gate]) -> Result<Vec<GateRow>, StoreError> {
        tx_gates::gates(self, gates).await
    }

    async fn put_gates(&mut self, rows: &[GateRow]) -> Result<(), StoreError> {
        tx_gates::put(self, rows).await
    }

    async fn delete_gates(&mut self, gates: &[Gate]) -> Result<(), StoreError> {
        tx_gates::delete(self, gates).await
    }

    async fn opening(&mut self, now: Timestamp, limit: u32) -> Result<Vec<Gate>, StoreError> {
        if self.nothing_is_due(now) {
            return Ok(Vec::new());
        }
        tx_gates::opening(self, now, limit).await
    }

    async fn parked(&mut self, gates: &[Gate], each: u32) -> Result<Vec<ParkedTask>, StoreError> {
        tx_gates::parked(self, gates, each).await
    }

    async fn limits(&mut self, definitions: &[Name]) -> Result<Vec<(Name, Limits)>, StoreError> {
        tx_gates::limits(self, definitions).await
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
        tx_write::insert_control_event(self, order).await
    }

    async fn insert_rounds(&mut self, rows: &[RoundRow]) -> Result<(), StoreError> {
        tx_write::insert_rounds(self, rows).await
    }

    async fn copy_rounds(&mut self, from: TaskId, to: TaskId) -> Result<(), StoreError> {
        tx_write::copy_rounds(self, from, to).await
    }

    async fn known_keys(&mut self, keys: &[String], not_before: Timestamp) -> Result<Vec<KnownKey>, StoreError> {
        tx_read::known_keys(self, keys, not_before).await
    }

    async fn insert_key(&mut self, key: &KnownKey, _now: Timestamp) -> Result<(), StoreError> {
        self.keys.push(key.clone());
        Ok(())
    }

    async fn delete_keys(&mut self, not_before: Timestamp, limit: u32) -> Result<(), StoreError> {
        tx_write::delete_keys(self, not_before, limit).await
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
        schedules::release(self, ended, now).await
    }

    async fn insert_schedule_order(&mut self, order: &ScheduleOrder) -> Result<(), StoreError> {
        schedules::insert_order(self, order).await
    }

    async fn use_session(&mut self, id: SessionId, now: Timestamp) -> Result<bool, StoreError> {
        sessions::use_session(self, id, now).await
    }

    async fn set_sdk_session(&mut self, id: SessionId, sdk: &str) -> Result<(), StoreError> {
        sessions::set_sdk_session(self, id, sdk).await
    }

    async fn between(&mut self, point: Point) -> Result<(), StoreError> {
        if !fault::is_on(Guard::Atomic) {
            self.write().await?;
            sqlx::raw_sql("COMMIT; BEGIN").execute(&mut *self.conn).await?;
        }
        fault::point(point).await
    }
}
