//! What Wasmtime makes of `wit/`: the one `bindgen!` of the host.
//!
//! The world `aggregator` holds everything that a module may export. Its two exports are looked up one by one ([`step`] must be
//! there, [`aggregate`] may), so that both kinds of module share one set of types.

#![expect(unreachable_pub, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "aggregator",
    imports: { default: async | trappable },
    exports: { default: async },
});

pub use command_tower::agent::{children, control, report, split, types};
pub use exports::command_tower::agent::{aggregate, step};
