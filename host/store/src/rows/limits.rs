//! Limits: gates, who waits at them, and what definitions say.

use std::collections::{BTreeSet, HashMap};

use tower_domain::limit::{Gate, GateState, Limits};
use tower_domain::name::Name;

use super::{Bind, Cells, Columns};
use crate::StoreError;
use crate::apply::tx::{GateRow, ParkedTask};
use crate::read::LimitUse;

/// Columns of [`gate_row`], of `gates AS g`.
macro_rules! gate_columns {
    () => {
        "g.gate, g.taken, g.full_at, g.opens_at"
    };
}
pub(crate) use gate_columns;

pub(crate) fn gate_row(row: &impl Cells) -> Result<GateRow, StoreError> {
    let mut columns = Columns::of(row, "gates");
    let gate = columns.gate()?;
    Ok(GateRow { gate, state: GateState { taken: columns.uint()?, full_at: columns.opt_at()?, opens_at: columns.opt_at()? } })
}

pub(crate) fn bind_gate(params: &mut impl Bind, row: &GateRow) {
    params.text(row.gate.to_string()).int(row.state.taken).opt_at(row.state.full_at).opt_at(row.state.opens_at);
}

/// Gate, task, priority, rank.
pub(crate) fn parked_task(row: &impl Cells) -> Result<ParkedTask, StoreError> {
    let mut columns = Columns::of(row, "queue");
    Ok(ParkedTask { gate: columns.gate()?, task_id: columns.id()?, priority: columns.uint()?, rank: columns.uint()? })
}

/// Definition, `max_concurrent`, `concurrency_key`, `max_concurrent_per_key`, and `rate_limit` as JSON.
pub(crate) fn limits(row: &impl Cells) -> Result<(Name, Limits), StoreError> {
    let mut columns = Columns::of(row, "definition_versions");
    let definition = columns.name()?;
    let max_concurrent = columns.opt_uint()?;
    let concurrency_key = columns.opt_text()?;
    let max_concurrent_per_key = columns.opt_uint()?;
    Ok((definition, Limits { max_concurrent, concurrency_key, max_concurrent_per_key, rate_limit: columns.read()? }))
}

/// Gate, tasks that have passed, when it opens, tasks that wait. What holds there is not in the row.
pub(crate) fn limit_use(row: &impl Cells) -> Result<LimitUse, StoreError> {
    let mut columns = Columns::of(row, "gates");
    let (gate, running, opens_at, waiting) = (columns.gate()?, columns.uint()?, columns.opt_at()?, columns.uint()?);
    Ok(LimitUse { opens_at: opens_at.filter(|_| matches!(gate, Gate::Rate(_))), gate, limit: None, running, waiting })
}

/// Whose limits they are.
pub(crate) fn definitions_of(used: &[LimitUse]) -> BTreeSet<Name> {
    used.iter().filter_map(|used| used.gate.definition()).cloned().collect()
}

/// Says what holds at each.
pub(crate) fn say_limits(used: &mut [LimitUse], limits: &HashMap<Name, Limits>) {
    for used in used {
        used.limit = used.gate.definition().and_then(|name| limits.get(name)).and_then(|limits| limits.at(&used.gate));
    }
}
