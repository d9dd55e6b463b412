//! Bytes → a component that is ready to be instantiated.
//!
//! Compiling is where hostile bytes can cost most. It stands in one function, so that it can move into a process of its own with
//! limits of its own; until then [`inspect`](super::inspect()) keeps out what can be told beforehand, and no more than
//! [`compiles_at_once`](super::WasmConfig::compiles_at_once) run.

use tower_domain::module::Inspection;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::bindings::{aggregate, step};
use super::guest_state::GuestState;
use super::inspect::{InspectError, inspect};
use super::settings::TABLES_A_SLOT;

/// A component whose imports are linked and whose exports are found and typed: what is left for each step is to instantiate.
pub(crate) struct LoadedComponent {
    pub(crate) pre: InstancePre<GuestState>,
    pub(crate) step: step::GuestIndices,
    pub(crate) aggregate: Option<aggregate::GuestIndices>,
    /// Slots of the pool that one run of it takes.
    pub(crate) slots: u32,
    /// Machine code, in bytes.
    pub(crate) code_bytes: usize,
}

/// Inspects, compiles and links. Takes from milliseconds to many seconds of one core.
pub(crate) fn load(engine: &Engine, linker: &Linker<GuestState>, bytes: &[u8]) -> Result<(Inspection, LoadedComponent), InspectError> {
    let inspection = inspect(bytes)?;
    let component = compile(engine, bytes)?;
    let loaded = link(linker, &component, inspection.aggregates)?;
    Ok((inspection, loaded))
}

/// Never from text, never from a native image: only a component's binary form is taken.
fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, InspectError> {
    let component = Component::from_binary(engine, bytes).map_err(|error| {
        let text = InspectError::cleaned(&format!("{error:#}"));
        // The pool says which of its bounds it is.
        if text.contains("exceeds the") || text.contains("limit") { InspectError::StaticLimit(text) } else { InspectError::CompileLimit(text) }
    })?;
    component.initialize_copy_on_write_image().map_err(|error| InspectError::StaticLimit(InspectError::cleaned(&format!("{error:#}"))))?;
    Ok(component)
}

fn link(linker: &Linker<GuestState>, component: &Component, aggregates: bool) -> Result<LoadedComponent, InspectError> {
    let mismatch = |error: wasmtime::Error| InspectError::WorldMismatch(InspectError::cleaned(&format!("{error:#}")));
    let pre = linker.instantiate_pre(component).map_err(mismatch)?;
    let step = step::GuestIndices::new(&pre).map_err(mismatch)?;
    let aggregate = if aggregates { Some(aggregate::GuestIndices::new(&pre).map_err(mismatch)?) } else { None };
    let needs = component.resources_required();
    let needs = needs.ok_or_else(|| InspectError::StaticLimit("what it needs cannot be told before it runs".to_owned()))?;
    let image = component.image_range();
    Ok(LoadedComponent {
        pre,
        step,
        aggregate,
        slots: needs.num_memories.max(needs.num_tables.div_ceil(TABLES_A_SLOT)).max(1),
        code_bytes: (image.end as usize).saturating_sub(image.start as usize),
    })
}
