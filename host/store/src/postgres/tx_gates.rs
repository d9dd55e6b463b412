//! Limits: gates, and who waits at them; inside a transaction, and for readers.
//!
//! What a batch does at gates depends on all of them and on tasks of any trace. So batches that come to gates are one at a time, under a
//! lock that is taken before all others: a batch that finds that it needs it begins anew with it.

use std::collections::HashMap;

use sqlx::{PgConnection, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::limit::{Gate, Limits};
use tower_domain::name::Name;

use super::rows::{Array, Bind, Columns, Params};
use super::statements;
use super::tx::PgTx;
use super::values::Rows;
use crate::StoreError;
use crate::apply::tx::{GateRow, ParkedTask};
use crate::read::{LimitUse, PAGE_MAX, Page, PageRequest, WAITING_MAX};
use crate::rows::limits::{self, bind_gate, definitions_of, gate_columns, gate_row, limit_use, parked_task, say_limits};
use crate::rows::pages::cut;

static PUT: Rows = Rows::new(
    "gate text, taken, full_at, opens_at",
    0,
    "INSERT INTO gates ({columns}) SELECT * FROM {rows} ON CONFLICT (gate) DO UPDATE SET taken = excluded.taken, full_at = excluded.full_at, \
     opens_at = excluded.opens_at",
);

#[cfg(test)]
pub(super) static ROWS: &[(&str, &Rows)] = &[("tx_gates::PUT", &PUT)];

statements! {
    // The number says nothing but that it is this lock.
    LOCK = "SELECT pg_advisory_xact_lock(1414485842, 1)";
    GATES = concat!("SELECT ", gate_columns!(), " FROM gates AS g WHERE g.gate = ANY($1) ORDER BY g.gate FOR UPDATE");
    DELETE = "DELETE FROM gates WHERE gate = ANY($1)";
    OPENING = "SELECT gate FROM gates WHERE opens_at <= $1 ORDER BY opens_at LIMIT $2";
    // NOWAIT: what another batch holds of these is not waited for, as that one may wait for something of this one's.
    PARKED = "SELECT q.gate, q.task_id, q.priority, q.rank, t.trace_id FROM unnest($1) AS i (gate) CROSS JOIN generate_series(1, 10) AS p (priority) \
         CROSS JOIN LATERAL (SELECT h.task_id FROM queue AS h WHERE h.place = 3 AND h.gate = i.gate AND h.priority = p.priority \
             ORDER BY h.rank, h.task_id LIMIT $2) AS first \
         JOIN queue AS q ON q.task_id = first.task_id JOIN tasks AS k ON k.id = q.task_id JOIN traces AS t ON t.trace_id = k.trace_id \
         FOR UPDATE OF q, t NOWAIT";
    IN_USE = "SELECT g.gate, g.taken, g.opens_at, (SELECT count(*) FROM ( \
             SELECT 1 FROM queue AS p WHERE p.place = 3 AND p.gate = g.gate LIMIT $1) AS w) \
         FROM gates AS g WHERE g.gate > $2 ORDER BY g.gate LIMIT $3";
    LIMITS = "SELECT d.id, (v.spec::json ->> 'max_concurrent')::bigint, v.spec::json ->> 'concurrency_key', \
             (v.spec::json ->> 'max_concurrent_per_key')::bigint, nullif(v.spec::json ->> 'rate_limit', '') \
         FROM definitions AS d JOIN definition_versions AS v ON v.definition_id = d.id AND v.version = d.version WHERE d.id = ANY($1)";
}

/// Takes the lock of all gates, before any other.
pub(super) async fn lock(tx: &mut PgTx) -> Result<(), StoreError> {
    tx.fetch(LOCK, Params::new()).await?;
    Ok(())
}

/// Gates, those that exist, locked.
pub(super) async fn gates(tx: &mut PgTx, gates: &[Gate]) -> Result<Vec<GateRow>, StoreError> {
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    tx.comes_to_gates = true;
    if !tx.holds_gates {
        return Err(StoreError::Raced);
    }
    let mut params = Params::new();
    params.array(gate_array(gates));
    tx.fetch(GATES, params).await?.iter().map(gate_row).collect()
}

/// Puts gates, whether they are there or not.
pub(super) async fn put(tx: &mut PgTx, rows: &[GateRow]) -> Result<(), StoreError> {
    PUT.write(tx, rows, &[], bind_gate).await
}

/// Deletes gates.
pub(super) async fn delete(tx: &mut PgTx, gates: &[Gate]) -> Result<(), StoreError> {
    if !gates.is_empty() {
        let mut params = Params::new();
        params.array(gate_array(gates));
        tx.execute(DELETE, params).await?;
    }
    Ok(())
}

/// Gates whose time to open has come.
pub(super) async fn opening(tx: &mut PgTx, now: Timestamp, limit: u32) -> Result<Vec<Gate>, StoreError> {
    let mut params = Params::new();
    params.at(now).int(limit);
    tx.fetch(OPENING, params).await?.iter().map(|row| Columns::of(row, "gates").gate()).collect()
}

/// Who waits at gates, in any order, with their traces locked.
pub(super) async fn parked(tx: &mut PgTx, gates: &[Gate], each: u32) -> Result<Vec<ParkedTask>, StoreError> {
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = Params::new();
    params.array(gate_array(gates)).int(each);
    let rows = tx.fetch(PARKED, params).await?;
    let mut parked = Vec::with_capacity(rows.len());
    for row in &rows {
        parked.push(parked_task(row)?);
        tx.locked.insert(Columns::after(row, 4, "queue").id()?);
    }
    Ok(parked)
}

/// What definitions limit now.
pub(super) async fn limits(tx: &mut PgTx, definitions: &[Name]) -> Result<Vec<(Name, Limits)>, StoreError> {
    if definitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut params = Params::new();
    params.array(Array::texts(definitions.iter().map(Name::as_str)));
    tx.fetch(LIMITS, params).await?.iter().map(limits::limits).collect()
}

/// Limits that somebody has passed or waits for, by name.
pub(super) async fn in_use(conn: &mut PgConnection, page: &PageRequest<Gate>) -> Result<Page<LimitUse, Gate>, StoreError> {
    let limit = page.limit.clamp(1, PAGE_MAX);
    let mut params = Params::new();
    params.int(WAITING_MAX).text(page.after.as_ref().map_or_else(String::new, Gate::to_string)).int(limit + 1);
    let rows = query_with(IN_USE, params.into_list()).fetch_all(&mut *conn).await?;
    let mut used: Vec<LimitUse> = rows.iter().map(limit_use).collect::<Result<_, _>>()?;
    let mut params = Params::new();
    params.array(Array::texts(definitions_of(&used).iter().map(Name::as_str)));
    let rows = query_with(LIMITS, params.into_list()).fetch_all(conn).await?;
    let limits: HashMap<Name, Limits> = rows.iter().map(limits::limits).collect::<Result<_, _>>()?;
    say_limits(&mut used, &limits);
    Ok(cut(used, limit, |used| used.gate.clone()))
}

fn gate_array(gates: &[Gate]) -> Array {
    let names: Vec<String> = gates.iter().map(Gate::to_string).collect();
    Array::texts(names.iter().map(String::as_str))
}
