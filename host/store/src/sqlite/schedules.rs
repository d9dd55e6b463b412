//! Schedules: what is asked of them, and how a batch and a definition write them.

use async_trait::async_trait;
use sqlx::{Row, SqliteConnection, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::control::{KeptOrder, ScheduleOrder};
use tower_domain::definition::Definition;
use tower_domain::id::{ControlEventId, TraceId};
use tower_domain::name::Name;
use tower_domain::schedule::{Plan, Schedule};

use super::lists::{ABOVE_ALL, page_of};
use super::rows::{Bind, Columns, Id, Params};
use super::tx::SqliteTx;
use super::{SqliteStore, statements};
use crate::StoreError;
use crate::read::{PAGE_MAX, Page, PageRequest};
use crate::rows::nouns::{bind_schedule, kept_order, schedule, schedule_columns};
use crate::rows::pages::cut;
use crate::rows::work::bind_schedule_order;
use crate::schedules::{Ahead, OrderFilter, ScheduleFilter, ScheduleStore, followed};

/// A statement over orders. Parameters: 1 ids below, 2 action or NULL, 3 given from or NULL, 4 limit, 5 what the term needs.
macro_rules! orders {
    ($($term:literal),*) => {
        concat!(
            "SELECT c.id, c.trace_id, c.task_id, c.definition_id, c.action, c.triggered_by, c.reason, c.created_at FROM control_events AS c \
             WHERE c.id < ?1 AND (?2 IS NULL OR c.action = ?2) AND (?3 IS NULL OR c.created_at >= ?3)", $($term,)* " ORDER BY c.id DESC LIMIT ?4"
        )
    };
}

statements! {
    PUT = "INSERT INTO schedules (definition_id, definition_version, revision, state, anchor, next_at, last_at, last_trace_id, waiting_trace_id, \
         waited_until, fired, missed, skipped, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
         ON CONFLICT (definition_id) DO UPDATE SET definition_version = excluded.definition_version, \
         revision = excluded.revision, state = excluded.state, anchor = excluded.anchor, next_at = excluded.next_at, last_at = excluded.last_at, \
         last_trace_id = excluded.last_trace_id, waiting_trace_id = excluded.waiting_trace_id, waited_until = excluded.waited_until, \
         fired = excluded.fired, missed = excluded.missed, skipped = excluded.skipped, updated_at = excluded.updated_at";
    INSERT_FIRE = "INSERT INTO cron_fires (definition_id, instant, trace_id) VALUES (?1, ?2, ?3)";
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

    async fn find_many(&self, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError> {
        if definitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut params = Params::new();
        params.text(names(definitions));
        let rows = query_with(MANY, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(schedule).collect()
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
        let mut orders = rows.iter().map(kept_order).collect::<Result<Vec<_>, _>>()?;
        if let Some(definition) = &filter.definition_id {
            // Beside a trace there is no index for it; no order has both.
            orders.retain(|order| order.definition_id.as_ref() == Some(definition));
        }
        Ok(cut(orders, limit, |order| order.id))
    }
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
    let mut params = Params::new();
    params.text(new.id.as_str());
    let last: Option<i64> = query_with(LAST_FIRED, params.into_list()).fetch_optional(&mut *conn).await?.map(|row| row.get(0));
    let Some(next) = followed(before, new, &plan, row, last.map(Timestamp::from_micros), now) else { return Ok(()) };
    let mut params = Params::new();
    bind_schedule(&mut params, &next);
    query_with(PUT, params.into_list()).execute(conn).await?;
    Ok(())
}

/// As [`MANY`] takes them.
fn names(definitions: &[Name]) -> String {
    serde_json::to_string(definitions).expect("a list of names is always JSON")
}

/// Rows of these definitions, those that exist.
pub(super) fn many(tx: &mut SqliteTx<'_>, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError> {
    if definitions.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        MANY,
        |params| {
            params.text(names(definitions));
        },
        |row| schedule(row),
    )
}

/// Replaces rows.
pub(super) fn put(tx: &mut SqliteTx<'_>, rows: &[Schedule]) -> Result<(), StoreError> {
    tx.execute_each(PUT, rows, |params, row| bind_schedule(params, row))
}

/// Keeps what fired.
pub(super) fn insert_fires(tx: &mut SqliteTx<'_>, rows: &[(Name, Timestamp, TraceId)]) -> Result<(), StoreError> {
    tx.execute_each(INSERT_FIRE, rows, |params, (definition, instant, trace)| {
        params.text(definition.as_str()).at(*instant).id(*trace);
    })
}

/// Traces have ended: what waited for one of them is due.
pub(super) fn release(tx: &mut SqliteTx<'_>, ended: &[TraceId], now: Timestamp) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    tx.execute(RELEASE, |params| {
        params.at(now).at(now).ids(ended);
    })
}

/// Keeps an order.
pub(super) fn insert_order(tx: &mut SqliteTx<'_>, order: &ScheduleOrder) -> Result<(), StoreError> {
    tx.execute(INSERT_ORDER, |params| bind_schedule_order(params, order))
}
