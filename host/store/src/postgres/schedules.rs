//! Schedules: what is asked of them, and how a batch and a definition write them.

use async_trait::async_trait;
use sqlx::{PgConnection, Row, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::control::{KeptOrder, ScheduleOrder};
use tower_domain::definition::Definition;
use tower_domain::id::{ControlEventId, TraceId};
use tower_domain::name::Name;
use tower_domain::schedule::{Plan, Schedule};

use super::lists::page_of;
use super::rows::{Array, Bind, Columns, Id, Params, Table};
use super::tx::PgTx;
use super::values::{Rows, as_one};
use super::{PostgresStore, statements};
use crate::StoreError;
use crate::read::{PAGE_MAX, Page, PageRequest};
use crate::rows::nouns::{bind_schedule, kept_order, schedule, schedule_columns};
use crate::rows::pages::{ABOVE_ALL, cut};
use crate::rows::work::bind_schedule_order;
use crate::schedules::{Ahead, OrderFilter, ScheduleFilter, ScheduleStore, followed};

/// A statement over orders. Parameters: 1 ids below, 2 action or NULL, 3 given from or NULL, 4 limit, 5 what the term needs.
macro_rules! orders {
    ($($term:literal),*) => {
        concat!(
            "SELECT c.id, c.trace_id, c.task_id, c.definition_id, c.action, c.triggered_by, c.reason, c.created_at FROM control_events AS c \
             WHERE c.id < $1 AND ($2 IS NULL OR c.action = $2) AND ($3 IS NULL OR c.created_at >= $3)", $($term,)* " ORDER BY c.id DESC LIMIT $4"
        )
    };
}

static PUT: Rows = Rows::new(
    "definition_id text, definition_version, revision, state, anchor, next_at, last_at, last_trace_id uuid, waiting_trace_id uuid, \
     waited_until, fired, missed, skipped, updated_at",
    0,
    "INSERT INTO schedules ({columns}) SELECT * FROM {rows} ORDER BY v.definition_id COLLATE \"C\" \
     ON CONFLICT (definition_id) DO UPDATE SET definition_version = excluded.definition_version, revision = excluded.revision, \
     state = excluded.state, anchor = excluded.anchor, next_at = excluded.next_at, last_at = excluded.last_at, \
     last_trace_id = excluded.last_trace_id, waiting_trace_id = excluded.waiting_trace_id, waited_until = excluded.waited_until, \
     fired = excluded.fired, missed = excluded.missed, skipped = excluded.skipped, updated_at = excluded.updated_at",
);

static INSERT_FIRES: Rows = Rows::new("definition_id text, instant, trace_id uuid", 0, "INSERT INTO cron_fires ({columns}) SELECT * FROM {rows}");

#[cfg(test)]
pub(super) static ROWS: &[(&str, &Rows)] = &[("schedules::PUT", &PUT), ("INSERT_FIRES", &INSERT_FIRES)];

statements! {
    DUE = concat!(
        "SELECT ", schedule_columns!(), " FROM schedules AS s \
         WHERE s.next_at <= $1 AND s.waiting_trace_id IS NULL ORDER BY s.next_at LIMIT $2"
    );
    AHEAD = "SELECT (SELECT s.next_at FROM schedules AS s WHERE s.next_at IS NOT NULL AND s.waiting_trace_id IS NULL ORDER BY s.next_at LIMIT 1), \
         EXISTS (SELECT 1 FROM schedules AS w WHERE w.waiting_trace_id IS NOT NULL)";
    OF_DEFINITION = concat!("SELECT ", schedule_columns!(), " FROM schedules AS s WHERE s.definition_id = $1");
    OF_DEFINITIONS = concat!("SELECT ", schedule_columns!(), " FROM schedules AS s WHERE s.definition_id = ANY($1)");
    LIST = concat!(
        "SELECT ", schedule_columns!(), " FROM schedules AS s WHERE s.definition_id > $1 AND ($2 IS NULL OR s.state = $2) \
         ORDER BY s.definition_id LIMIT $3"
    );
    ORDERS = orders!();
    ORDERS_OF_TRACE = orders!(" AND c.trace_id = $5");
    ORDERS_OF_DEFINITION = orders!(" AND c.definition_id = $5");
    LAST_FIRED = "SELECT instant FROM cron_fires WHERE definition_id = $1 ORDER BY instant DESC LIMIT 1";
    DELETE = "DELETE FROM schedules WHERE definition_id = $1";
    LOCK = concat!("SELECT ", schedule_columns!(), " FROM schedules AS s WHERE s.definition_id = $1 FOR UPDATE");
    MANY = concat!("SELECT ", schedule_columns!(), " FROM schedules AS s WHERE s.definition_id = ANY($1) ORDER BY s.definition_id FOR UPDATE");
    RELEASE = "UPDATE schedules SET waiting_trace_id = NULL, waited_until = $1, revision = revision + 1, updated_at = $1 WHERE waiting_trace_id = ANY($2)";
    INSERT_ORDER = "INSERT INTO control_events (id, definition_id, action, created_at, triggered_by, reason) VALUES ($1, $2, $3, $4, $5, $6)";
}

#[async_trait]
impl ScheduleStore for PostgresStore {
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
        of_definition(&mut *self.reader().await?, OF_DEFINITION, definition).await
    }

    async fn find_many(&self, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError> {
        if definitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut params = Params::new();
        params.array(Array::texts(definitions.iter().map(Name::as_str)));
        let rows = query_with(OF_DEFINITIONS, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
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
            params.bound(page.after.map(Id::bytes).as_ref().map_or(&ABOVE_ALL, |id| id)).opt_word(filter.action).opt_at(filter.since).int(rows);
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

async fn of_definition(conn: &mut PgConnection, statement: &'static str, definition: &Name) -> Result<Option<Schedule>, StoreError> {
    let mut params = Params::new();
    params.text(definition.as_str());
    let row = query_with(statement, params.into_list()).fetch_optional(conn).await?;
    row.as_ref().map(schedule).transpose()
}

/// Has the schedule follow a new version of its definition, in the transaction that writes that.
pub(super) async fn follow(conn: &mut PgConnection, before: Option<&Definition>, new: &Definition, now: Timestamp) -> Result<(), StoreError> {
    let had = before.is_some_and(|before| Plan::of(&before.spec).is_some());
    let Some(plan) = Plan::of(&new.spec) else {
        if had {
            let mut params = Params::new();
            params.text(new.id.as_str());
            query_with(DELETE, params.into_list()).execute(conn).await?;
        }
        return Ok(());
    };
    let row = if had { of_definition(conn, LOCK, &new.id).await? } else { None };
    let mut params = Params::new();
    params.text(new.id.as_str());
    let last: Option<i64> = query_with(LAST_FIRED, params.into_list()).fetch_optional(&mut *conn).await?.map(|row| row.get(0));
    let Some(next) = followed(before, new, &plan, row, last.map(Timestamp::from_micros), now) else { return Ok(()) };
    let (text, params) = as_one(vec![PUT.of(&[next], &[], bind_schedule).0]);
    query_with(text, params.into_list()).execute(conn).await?;
    Ok(())
}

/// Rows of these definitions, those that exist, locked.
pub(super) async fn many(tx: &mut PgTx, definitions: &[Name]) -> Result<Vec<Schedule>, StoreError> {
    if definitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = Params::new();
    params.array(Array::texts(definitions.iter().map(Name::as_str)));
    tx.fetch(MANY, params).await?.iter().map(schedule).collect()
}

/// Replaces rows.
pub(super) async fn put(tx: &mut PgTx, rows: &[Schedule]) -> Result<(), StoreError> {
    PUT.write(tx, rows, &[], bind_schedule).await
}

/// Keeps what fired.
pub(super) async fn insert_fires(tx: &mut PgTx, rows: &[(Name, Timestamp, TraceId)]) -> Result<(), StoreError> {
    let bind = |params: &mut Table, (definition, instant, trace): &(Name, Timestamp, TraceId)| {
        params.text(definition.as_str()).at(*instant).id(*trace);
    };
    INSERT_FIRES.write(tx, rows, &[], bind).await
}

/// Traces have ended: what waited for one of them is due.
pub(super) async fn release(tx: &mut PgTx, ended: &[TraceId], now: Timestamp) -> Result<(), StoreError> {
    if !ended.is_empty() {
        let mut params = Params::new();
        params.at(now).ids(ended);
        tx.execute(RELEASE, params).await?;
    }
    Ok(())
}

/// Keeps an order.
pub(super) async fn insert_order(tx: &mut PgTx, order: &ScheduleOrder) -> Result<(), StoreError> {
    let mut params = Params::new();
    bind_schedule_order(&mut params, order);
    tx.execute(INSERT_ORDER, params).await?;
    Ok(())
}
