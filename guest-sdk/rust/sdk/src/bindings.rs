//! What wit-bindgen makes of `wit/`, in one place. Two worlds are generated, so that a component exports only what its author
//! wrote: the tower's own `agent` for the step and all imports, and one that does nothing but add `aggregate` to it. The linker
//! joins the worlds whose export macros were used, and drops the imports that are never called.

#![expect(unreachable_pub, missing_docs, reason = "generated")]

pub mod agent {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "command-tower:agent/agent",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_step",
        default_bindings_module: "::command_tower::__private::step",
        runtime_path: "::wit_bindgen::rt",
    });
}

pub mod fold {
    wit_bindgen::generate!({
        path: "../../../wit",
        inline: "package command-tower:sdk; world fold { export command-tower:agent/aggregate@0.1.0; }",
        world: "command-tower:sdk/fold",
        with: {
            "command-tower:agent/types@0.1.0": super::agent::command_tower::agent::types,
        },
        pub_export_macro: true,
        export_macro_name: "export_aggregate",
        default_bindings_module: "::command_tower::__private::fold",
    });
}

pub use agent::command_tower::agent::{children, split, types};
#[cfg(target_arch = "wasm32")]
pub use agent::command_tower::agent::{control, report};
