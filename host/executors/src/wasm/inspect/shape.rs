//! How large a component becomes when it is instantiated, counted from its bytes.
//!
//! Compiling costs in proportion to what is instantiated, not to what is written down: a component of a kilobyte whose parts each
//! instantiate the part below ten times comes to millions of instances. The count here is exact, costs one walk over the sections,
//! and stands before anything that compiles.

use tower_domain::definition::ResourceProfile;
use wasmparser::{ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef, Encoding, Instance, Parser, Payload};

use super::InspectError;
use crate::wasm::settings::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};

/// Functions of all core modules together. The largest interpreters have some 50 000.
const FUNCTIONS_MAX: u64 = 250_000;
/// Components inside the component, instantiated.
const COMPONENT_INSTANCES_MAX: u64 = 1_000;
const TABLE_ELEMENT_BYTES: u64 = 8;

/// What instantiating something brings about.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    core_instances: u64,
    component_instances: u64,
    memories: u64,
    tables: u64,
    /// Initial memories and tables, in bytes.
    bytes: u64,
}

impl Weight {
    fn add(&mut self, other: Self) {
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.component_instances = self.component_instances.saturating_add(other.component_instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// A module or component whose end has not been reached.
#[derive(Default)]
struct Open {
    is_module: bool,
    /// Of one instance of it.
    weight: Weight,
    /// Index space of core modules.
    modules: Vec<Weight>,
    /// Index space of components.
    components: Vec<Weight>,
}

/// Whether the component stays within what the pool can ever hold.
pub(super) fn check(bytes: &[u8]) -> Result<(), InspectError> {
    let mut walk = Walk { open: Vec::new(), functions: 0, whole: Weight::default() };
    for payload in Parser::new(0).parse_all(bytes) {
        walk.payload(&payload.map_err(damaged)?)?;
    }
    let whole = walk.whole;
    let bound = |what: &str, is: u64, max: u64| {
        if is <= max {
            Ok(())
        } else {
            Err(InspectError::StaticLimit(format!("it comes to {is} {what} when it is instantiated, and {max} is the most that a component may have")))
        }
    };
    bound("core instances", whole.core_instances, CORE_INSTANCES_MAX.into())?;
    bound("instances of inner components", whole.component_instances, COMPONENT_INSTANCES_MAX)?;
    bound("memories", whole.memories, MEMORIES_MAX.into())?;
    bound("tables", whole.tables, TABLES_MAX.into())?;
    bound("bytes of memory before its code begins", whole.bytes, ResourceProfile::MEMORY_BYTES_MAX - 1)?;
    bound("functions", walk.functions, FUNCTIONS_MAX)
}

struct Walk {
    open: Vec<Open>,
    functions: u64,
    whole: Weight,
}

fn damaged(error: wasmparser::BinaryReaderError) -> InspectError {
    InspectError::NotAComponent(InspectError::cleaned(&format!("the component is damaged or cut short: {error}")))
}

/// Components and modules that come from outside or from an instance could be anything: no count would be exact.
fn not_as_values() -> InspectError {
    InspectError::StaticLimit("it hands components or modules on as values; link its parts when you build it (for example with `wac`)".to_owned())
}

impl Walk {
    fn top(&mut self) -> Result<&mut Open, InspectError> {
        self.open.last_mut().ok_or_else(|| InspectError::NotAComponent("the component is damaged".to_owned()))
    }

    fn payload(&mut self, payload: &Payload<'_>) -> Result<(), InspectError> {
        match payload {
            Payload::Version { encoding, .. } => self.open.push(Open { is_module: *encoding == Encoding::Module, ..Open::default() }),
            Payload::End(_) => self.close(),
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    let memory = memory.map_err(damaged)?;
                    let page_bytes = 1u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    let weight = &mut self.top()?.weight;
                    weight.memories += 1;
                    weight.bytes = weight.bytes.saturating_add(memory.initial.saturating_mul(page_bytes));
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    let initial = table.map_err(damaged)?.ty.initial;
                    if initial > TABLE_ELEMENTS_MAX as u64 {
                        return Err(InspectError::StaticLimit(format!("it has a table of {initial} elements, and {TABLE_ELEMENTS_MAX} is the most")));
                    }
                    let weight = &mut self.top()?.weight;
                    weight.tables += 1;
                    weight.bytes = weight.bytes.saturating_add(initial.saturating_mul(TABLE_ELEMENT_BYTES));
                }
            }
            Payload::FunctionSection(functions) => self.functions += u64::from(functions.count()),
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    if let Instance::Instantiate { module_index, .. } = instance.map_err(damaged)? {
                        let top = self.top()?;
                        let mut weight = top.modules.get(module_index as usize).copied().ok_or_else(not_as_values)?;
                        weight.core_instances = 1;
                        top.weight.add(weight);
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance.map_err(damaged)? {
                        let top = self.top()?;
                        let mut weight = top.components.get(component_index as usize).copied().ok_or_else(not_as_values)?;
                        weight.component_instances = weight.component_instances.saturating_add(1);
                        top.weight.add(weight);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    self.alias(&alias.map_err(damaged)?)?;
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    if matches!(import.map_err(damaged)?.ty, ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_)) {
                        return Err(not_as_values());
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                // An export makes a further index for the same thing.
                for export in exports.clone() {
                    let export = export.map_err(damaged)?;
                    self.again(export.kind, 0, export.index)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        match self.open.last_mut() {
            None => self.whole = closed.weight,
            Some(outer) if closed.is_module => outer.modules.push(closed.weight),
            Some(outer) => outer.components.push(closed.weight),
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), InspectError> {
        match alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module | ComponentExternalKind::Component, .. } => Err(not_as_values()),
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, index } => self.again(ComponentExternalKind::Module, *count, *index),
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => self.again(ComponentExternalKind::Component, *count, *index),
            _ => Ok(()),
        }
    }

    /// Gives a thing of the component `out` levels up a further index in the present one.
    fn again(&mut self, kind: ComponentExternalKind, out: u32, index: u32) -> Result<(), InspectError> {
        let from = self.open.len().checked_sub(1 + out as usize).and_then(|level| self.open.get(level)).ok_or_else(not_as_values)?;
        match kind {
            ComponentExternalKind::Module => {
                let weight = from.modules.get(index as usize).copied().ok_or_else(not_as_values)?;
                self.top()?.modules.push(weight);
            }
            ComponentExternalKind::Component => {
                let weight = from.components.get(index as usize).copied().ok_or_else(not_as_values)?;
                self.top()?.components.push(weight);
            }
            _ => {}
        }
        Ok(())
    }
}
