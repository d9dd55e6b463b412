//! A native image → a component that is ready to be instantiated.

use std::path::Path;

use tower_domain::step::HostTrouble;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::bindings::{aggregate, step};
use super::compile::CompileError;
use super::guest_state::GuestState;
use super::inspect::InspectError;
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

/// What is needed to make components ready.
pub(crate) struct Loader {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<GuestState>,
    /// Slots that there are: a component that needs more never runs.
    pub(crate) slots: u32,
}

impl Loader {
    /// Maps the image into memory and links it. Blocks for as long as that takes: milliseconds.
    ///
    /// # Safety
    /// The file is what a worker of this host's compiler wrote, or a copy of it that was authenticated, and nobody changes it
    /// as long as the component lives.
    pub(crate) unsafe fn load(&self, image: &Path, aggregates: bool) -> Result<LoadedComponent, CompileError> {
        let component = unsafe { Component::deserialize_file(&self.engine, image) }.map_err(|error| not_mapped(&error))?;
        component.initialize_copy_on_write_image().map_err(|error| not_mapped(&error))?;
        let loaded = self.link(&component, aggregates)?;
        if loaded.slots > self.slots {
            let text = format!("one run takes {} slots of the sandbox, and it has {}; raise `slots`", loaded.slots, self.slots);
            return Err(InspectError::StaticLimit(text).into());
        }
        Ok(loaded)
    }

    fn link(&self, component: &Component, aggregates: bool) -> Result<LoadedComponent, InspectError> {
        let mismatch = |error: wasmtime::Error| InspectError::WorldMismatch(InspectError::cleaned(&format!("{error:#}")));
        let pre = self.linker.instantiate_pre(component).map_err(mismatch)?;
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
}

/// Too few descriptors or too little memory are the machine's affair, and pass; the pool's bounds are the module's.
fn not_mapped(error: &wasmtime::Error) -> CompileError {
    let text = InspectError::cleaned(&format!("{error:#}"));
    if error.chain().any(|cause| cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>()) {
        return HostTrouble(format!("the machine code cannot be loaded: {text}")).into();
    }
    // It says which of them it is.
    InspectError::StaticLimit(text).into()
}
