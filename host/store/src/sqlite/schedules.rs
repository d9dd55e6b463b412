//! Schedules: what is asked of them, and how a batch and a definition write them.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::control::{KeptOrder, ScheduleOrder};
use tower_domain::definition::Definition;
use tower_domain::id::{ControlEventId, TraceId};
use tower_domain::name::Name;
use tower_domain::schedule::{Plan, Schedule, ScheduleState};

use super::lists::{ABOVE_ALL, cut, page_of};
use super::rows::{Columns, Id, Params};
use super::tx::SqliteTx;
use super::values::Rows;
use super::{SqliteStore, statements};
use crate::StoreError;
use crate::read::{PAGE_MAX, Page, PageRequest};
use crate::schedules::{Ahead, OrderFilter, ScheduleFilter, ScheduleStore};

/// Columns of [`schedule`], of `schedules AS s`.
macro_rules! schedule_columns {
    () => {
        "s.definition_id, s.definition_version, s.revision, s.state, s.anchor, s.next_at, s.last_at, s.last_trace_id, s.waiting_trace_id, \
         s.waited_until, s.fired, s.missed, s.skipped, s.updated_at"
    };
}

/// A statement over orders. Parameters: 1 ids below, 2 action or NULL, 3 given from or NULL, 4 limit, 5 what the term needs.
macro_rules! orders {
    ($($term:literal),*) => {
        concat!(
            "SELECT c.id, c.trace_id, c.task_id, c.definition_id, c.action, c.triggered_by, c.reason, c.created_at FROM control_events AS c \
             WHERE c.id < ?1 AND (?2 IS NULL OR c.action = ?2) AND (?3 IS NULL OR c.created_at >= ?3)", $($term,)* " ORDER BY c.id DESC LIMIT ?4"
        )
    };
}

static PUT: Rows = Rows::new(
    14,
    "INSERT INTO schedules (definition_id, definition_version, revision, state, anchor, next_at, last_at, last_trace_id, waiting_trace_id, \
     waited_until, fired, missed, skipped, updated_at) SELECT * FROM",
    "WHERE column1 IS NOT NULL ON CONFLICT (definition_id) DO UPDATE SET definition_version = excluded.definition_version, \
     revision = excluded.revision, state = excluded.state, anchor = excluded.anchor, next_at = excluded.next_at, last_at = excluded.last_at, \
     last_trace_id = excluded.last_trace_id, waiting_trace_id = excluded.waiting_trace_id, waited_until = excluded.waited_until, \
     fired = excluded.fired, missed = excluded.missed, skipped = excluded.skipped, updated_at = excluded.updated_at",
);

static INSERT_FIRES: Rows = Rows::new(3, "INSERT INTO cron_fires (definition_id, instant, trace_id) SELECT * FROM", "WHERE column1 IS NOT NULL");

#[cfg(test)]
pub(super) static ROWS: &[(&str, &Rows)] = &[("schedules::PUT", &PUT), ("INSERT_FIRES", &INSERT_FIRES)];

statements! {
    DUE = concat!(
        "SELECT ", schedule_columns!(), " FROM schedules AS s \
         WHERE s.next_at <= ?1 AND s.waiting_trace_id IS NULL ORDER BY s.next_at LIMIT ?2"
    );
    AHEAD = "SELECT (SELECT s.next_at FROM schedules AS s WHERE s.next_at IS NOT NULL AND s.waiting_trace_id IS NULL ORDER BY s.next_at LIMIT 1), \
         EXISTS (SELECT 1 FROM schedules AS w WHERE w.waiting_trace_id > x'')";
    OF_DEFINITION = concat!("SELECT ", schedule_columns!(), " FROM schedules AS s WHERE s.definition_id = ?1");
    LIST = concat!(
        "SELECT ", schedule_columns!(), " FROM schedules AS s WHERE s.definition_id > ?1 AND (?2 IS NULL OR s.state = ?2) \
         ORDER BY s.definition_id LIMIT ?3"
    );
    ORDERS = orders!();
    ORDERS_OF_TRACE = orders!(" AND c.trace_id = ?5");
    ORDERS_OF_DEFINITION = orders!(" AND c.definition_id = ?5");
    LAST_FIRED = "SELECT instant FROM cron_fires WHERE definition_id = ?1 ORDER BY instant DESC LIMIT 1";
    DELETE = "DELETE FROM schedules WHERE definition_id = ?1";
    // Parameters are counted through the text that they are staged in.
    MANY = concat!("SELECT ", schedule_columns!(), " FROM json_each(?) AS i CROSS JOIN schedules AS s ON s.definition_id = i.value");
    RELEASE = "UPDATE schedules SET waiting_trace_id = NULL, waited_until = ?, revision = revision + 1, updated_at = ? \
         WHERE waiting_trace_id IN (SELECT unhex(i.value) FROM json_each(?) AS i)";
    INSERT_ORDER = "INSERT INTO control_events (id, definition_id, action, created_at, triggered_by, reason) VALUES (?, ?, ?, ?, ?, ?)";
}

#[async_trait]
impl ScheduleStore for SqliteStore {
    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Schedule>, StoreError> {
        let mut params = Params::new();
        params.at(now).int(limit);
        let rows = query_with(DUE, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(schedule).collect()
    }

    async fn ahead(&self) -> Result<Ahead, StoreError> {
        let row = sqlx::query(AHEAD).fetch_one(&mut *self.reader().await?).await?;
        let mut columns = Columns::of(&row, "schedules");
        Ok(Ahead { next_at: columns.opt_at()?, waiting: columns.flag()? })
    }

    async fn find(&self, definition: &Name) -> Result<Option<Schedule>, StoreError> {
        of_definition(&mut *self.reader().await?, definition).await
    }

    async fn list(&self, filter: &ScheduleFilter, page: &PageRequest<Name>) -> Result<Page<Schedule, Name>, StoreError> {
        let limit = page.limit.clamp(1, PAGE_MAX);
        let params = |rows: u32| {
            let mut params = Params::new();
            params.text(page.after.as_ref().map_or("", |name| name.as_str())).opt_word(filter.state).int(rows);
            params
        };
        let (rows, limit) = page_of(&mut *self.reader().await?, LIST, limit, params).await?;
        let schedules = rows.iter().map(schedule).collect::<Result<Vec<_>, _>>()?;
        Ok(cut(schedules, limit, |schedule| schedule.definition_id.clone()))
    }

    async fn orders(&self, filter: &OrderFilter, page: &PageRequest<ControlEventId>) -> Result<Page<KeptOrder, ControlEventId>, StoreError> {
        let limit = page.limit.clamp(1, PAGE_MAX);
        let params = |rows: u32| {
            let mut params = Params::new();
            params.bytes(page.after.map(Id::bytes).as_ref().map_or(&ABOVE_ALL, |id| id)).opt_word(filter.action).opt_at(filter.since).int(rows);
            match (filter.trace_id, &filter.definition_id) {
                (Some(trace), _) => params.id(trace),
                (None, Some(definition)) => params.text(definition.as_str()),
                (None, None) => &mut params,
            };
            params
        };
        let statement = match (filter.trace_id, &filter.definition_id) {
            (Some(_), _) => ORDERS_OF_TRACE,
            (None, Some(_)) => ORDERS_OF_DEFINITION,
            (None, None) => ORDERS,
        };
        let (rows, limit) = page_of(&mut *self.reader().await?, statement, limit, params).await?;
        let mut orders = rows.iter().map(order).collect::<Result<Vec<_>, _>>()?;
        if let Some(definition) = &filter.definition_id {
            // Beside a trace there is no index for it; no order has both.
            orders.retain(|order| order.definition_id.as_ref() == Some(definition));
        }
        Ok(cut(orders, limit, |order| order.id))
    }
}

fn order(row: &SqliteRow) -> Result<KeptOrder, StoreError> {
    let mut columns = Columns::of(row, "control_events");
    Ok(KeptOrder {
        id: columns.id()?,
        trace_id: columns.opt_id()?,
        task_id: columns.opt_id()?,
        definition_id: columns.opt_name()?,
        action: columns.word()?,
        triggered_by: columns.text()?,
        reason: columns.text()?,
        created_at: columns.at()?,
    })
}

fn schedule(row: &SqliteRow) -> Result<Schedule, StoreError> {
    let mut columns = Columns::of(row, "schedules");
    Ok(Schedule {
        definition_id: columns.name()?,
        definition_version: columns.uint()?,
        revision: columns.uint()?,
        state: columns.word()?,
        anchor: columns.at()?,
        next_at: columns.opt_at()?,
        last_at: columns.opt_at()?,
        last_trace_id: columns.opt_id()?,
        waiting_trace_id: columns.opt_id()?,
        waited_until: columns.opt_at()?,
        fired: columns.uint()?,
        missed: columns.uint()?,
        skipped: columns.uint()?,
        updated_at: columns.at()?,
    })
}

fn bind(params: &mut Params, row: &Schedule) {
    params.text(row.definition_id.as_str()).int(row.definition_version).uint(row.revision).word(row.state).at(row.anchor);
    params.opt_at(row.next_at).opt_at(row.last_at).opt_id(row.last_trace_id).opt_id(row.waiting_trace_id).opt_at(row.waited_until);
    params.uint(row.fired).uint(row.missed).uint(row.skipped).at(row.updated_at);
}

async fn of_definition(conn: &mut SqliteConnection, definition: &Name) -> Result<Option<Schedule>, StoreError> {
    let mut params = Params::new();
    params.text(definition.as_str());
    let row = query_with(OF_DEFINITION, params.into_list()).fetch_optional(conn).await?;
    row.as_ref().map(schedule).transpose()
}

/// Has the schedule follow a new version of its definition, in the transaction that writes that.
pub(super) async fn follow(conn: &mut SqliteConnection, before: Option<&Definition>, new: &Definition, now: Timestamp) -> Result<(), StoreError> {
    let had = before.is_some_and(|before| Plan::of(&before.spec).is_some());
    let Some(plan) = Plan::of(&new.spec) else {
        if had {
            let mut params = Params::new();
            params.text(new.id.as_str());
            query_with(DELETE, params.into_list()).execute(conn).await?;
        }
        return Ok(());
    };
    let row = if had { of_definition(conn, &new.id).await? } else { None };
    let unchanged = before.is_some_and(|before| Plan::of(&before.spec) == Some(plan));
    let active_before = before.is_some_and(|before| before.spec.is_active);
    if unchanged && row.is_some() && active_before == new.spec.is_active {
        return Ok(());
    }
    let mut next = match row {
        Some(row) if unchanged => {
            // Switched off or on: what passed meanwhile was not missed.
            let fires = new.spec.is_active && row.state == ScheduleState::Active;
            let next_at = if fires { plan.resumed(&row, now) } else { None };
            let state = if fires && next_at.is_none() { ScheduleState::Completed } else { row.state };
            Schedule { revision: row.revision + 1, state, next_at, waiting_trace_id: None, waited_until: None, updated_at: now, ..row }
        }
        row => {
            let mut params = Params::new();
            params.text(new.id.as_str());
            let last: Option<i64> = query_with(LAST_FIRED, params.into_list()).fetch_optional(&mut *conn).await?.map(|row| row.get(0));
            let begun = plan.begin(&new.id, new.version, last.map(Timestamp::from_micros), now);
            // What was last still runs, perhaps; and whoever read the row before must not write it.
            let revision = row.as_ref().map_or(1, |row| row.revision + 1);
            Schedule { revision, last_trace_id: row.and_then(|row| row.last_trace_id), ..begun }
        }
    };
    if !new.spec.is_active {
        next.next_at = None;
    }
    let mut params = Params::new();
    bind(&mut params, &next);
    query_with(PUT.sql_of_one(), params.into_list()).execute(conn).await?;
    Ok(())
}

/// Rows of these definitions, those that exist.
pub(super) async fn many(tx: &mut SqliteTx<'_>, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError> {
    if definitions.is_empty() {
        return Ok(Vec::new());
    }
    tx.params.text(serde_json::to_string(definitions).expect("a list of names is always JSON"));
    tx.fetch(MANY).await?.iter().map(schedule).collect()
}

/// Replaces rows.
pub(super) async fn put(tx: &mut SqliteTx<'_>, rows: &[Schedule]) -> Result<(), StoreError> {
    PUT.run(tx, rows, |_| (), bind).await
}

/// Keeps what fired.
pub(super) async fn insert_fires(tx: &mut SqliteTx<'_>, rows: &[(Name, Timestamp, TraceId)]) -> Result<(), StoreError> {
    INSERT_FIRES
        .run(
            tx,
            rows,
            |_| (),
            |params, (definition, instant, trace)| {
                params.text(definition.as_str()).at(*instant).id(*trace);
            },
        )
        .await
}

/// Traces have ended: what waited for one of them is due.
pub(super) fn release(tx: &mut SqliteTx<'_>, ended: &[TraceId], now: Timestamp) {
    if !ended.is_empty() {
        tx.params.at(now).at(now).ids(ended);
        tx.stage(RELEASE);
    }
}

/// Keeps an order.
pub(super) fn insert_order(tx: &mut SqliteTx<'_>, order: &ScheduleOrder) {
    tx.params.id(order.id).text(order.definition_id.as_str()).word(order.action).at(order.created_at);
    tx.params.text(order.triggered_by.as_str()).text(order.reason.as_str());
    tx.stage(INSERT_ORDER);
}
