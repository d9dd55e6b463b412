//! Limits: gates, and who waits at them; inside a transaction, and for readers.

use std::collections::HashMap;

use sqlx::{SqliteConnection, query_with};
use tower_domain::clock::Timestamp;
use tower_domain::limit::{Gate, Limits};
use tower_domain::name::Name;

use super::rows::{Bind, Columns, Params};
use super::statements;
use super::tx::SqliteTx;
use crate::StoreError;
use crate::apply::tx::{GateRow, ParkedTask};
use crate::read::{LimitUse, PAGE_MAX, Page, PageRequest, WAITING_MAX};
use crate::rows::limits::{self, bind_gate, definitions_of, gate_columns, gate_row, limit_use, parked_task, say_limits};
use crate::rows::pages::cut;

statements! {
    PUT = "INSERT INTO gates (gate, taken, full_at, opens_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (gate) DO UPDATE SET taken = excluded.taken, full_at = excluded.full_at, opens_at = excluded.opens_at";
    GATES = concat!("SELECT ", gate_columns!(), " FROM json_each(?) AS i CROSS JOIN gates AS g ON g.gate = i.value");
    DELETE = "DELETE FROM gates WHERE gate IN (SELECT value FROM json_each(?))";
    OPENING = "SELECT gate FROM gates WHERE opens_at <= ? ORDER BY opens_at LIMIT ?";
    PARKED = "SELECT q.gate, q.task_id, q.priority, q.rank FROM json_each(?) AS i CROSS JOIN json_each('[1,2,3,4,5,6,7,8,9,10]') AS p \
         CROSS JOIN queue AS q ON q.task_id IN (SELECT h.task_id FROM queue AS h \
             WHERE h.place = 3 AND h.gate = i.value AND h.priority = p.value ORDER BY h.rank, h.task_id LIMIT ?)";
    IN_USE = "SELECT g.gate, g.taken, g.opens_at, (SELECT count(*) FROM ( \
             SELECT 1 FROM queue AS p WHERE p.place = 3 AND p.gate = g.gate LIMIT ?)) \
         FROM gates AS g WHERE g.gate > ? ORDER BY g.gate LIMIT ?";
    LIMITS = "SELECT d.id, v.spec ->> 'max_concurrent', v.spec ->> 'concurrency_key', v.spec ->> 'max_concurrent_per_key', v.spec -> 'rate_limit' \
         FROM json_each(?) AS i CROSS JOIN definitions AS d ON d.id = i.value \
         CROSS JOIN definition_versions AS v ON v.definition_id = d.id AND v.version = d.version";
}

/// Gates, those that exist.
pub(super) fn gates(tx: &mut SqliteTx<'_>, gates: &[Gate]) -> Result<Vec<GateRow>, StoreError> {
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        GATES,
        |params| {
            params.text(gate_array(gates));
        },
        |row| gate_row(row),
    )
}

/// Puts gates, whether they are there or not.
pub(super) fn put(tx: &mut SqliteTx<'_>, rows: &[GateRow]) -> Result<(), StoreError> {
    tx.nothing_waits &= rows.iter().all(|row| row.state.opens_at.is_none());
    tx.execute_each(PUT, rows, |params, row| bind_gate(params, row))
}

/// Deletes gates.
pub(super) fn delete(tx: &mut SqliteTx<'_>, gates: &[Gate]) -> Result<(), StoreError> {
    if gates.is_empty() {
        return Ok(());
    }
    tx.execute(DELETE, |params| {
        params.text(gate_array(gates));
    })
}

/// Gates whose time to open has come.
pub(super) fn opening(tx: &mut SqliteTx<'_>, now: Timestamp, limit: u32) -> Result<Vec<Gate>, StoreError> {
    if tx.nothing_waits {
        return Ok(Vec::new());
    }
    tx.query(
        OPENING,
        |params| {
            params.at(now).int(limit);
        },
        |row| Columns::of(row, "gates").gate(),
    )
}

/// Who waits at gates, in any order.
pub(super) fn parked(tx: &mut SqliteTx<'_>, gates: &[Gate], each: u32) -> Result<Vec<ParkedTask>, StoreError> {
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        PARKED,
        |params| {
            params.text(gate_array(gates)).int(each);
        },
        |row| parked_task(row),
    )
}

/// What definitions limit now.
pub(super) fn limits(tx: &mut SqliteTx<'_>, definitions: &[Name]) -> Result<Vec<(Name, Limits)>, StoreError> {
    if definitions.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        LIMITS,
        |params| {
            params.text(name_array(definitions));
        },
        |row| limits::limits(row),
    )
}

/// Limits that somebody has passed or waits for, by name.
pub(super) async fn in_use(conn: &mut SqliteConnection, page: &PageRequest<Gate>) -> Result<Page<LimitUse, Gate>, StoreError> {
    let limit = page.limit.clamp(1, PAGE_MAX);
    let mut params = Params::new();
    params.int(WAITING_MAX).text(page.after.as_ref().map_or_else(String::new, Gate::to_string)).int(limit + 1);
    let rows = query_with(IN_USE, params.into_list()).fetch_all(&mut *conn).await?;
    let mut used: Vec<LimitUse> = rows.iter().map(limit_use).collect::<Result<_, _>>()?;
    let mut params = Params::new();
    params.text(name_array(&definitions_of(&used)));
    let rows = query_with(LIMITS, params.into_list()).fetch_all(conn).await?;
    let limits: HashMap<Name, Limits> = rows.iter().map(limits::limits).collect::<Result<_, _>>()?;
    say_limits(&mut used, &limits);
    Ok(cut(used, limit, |used| used.gate.clone()))
}

fn name_array<'a>(names: impl IntoIterator<Item = &'a Name>) -> String {
    serde_json::to_string(&names.into_iter().collect::<Vec<_>>()).expect("a list of names is always JSON")
}

fn gate_array(gates: &[Gate]) -> String {
    serde_json::to_string(gates).expect("a list of texts is always JSON")
}
