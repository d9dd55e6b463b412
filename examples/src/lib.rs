//! The examples, built to components and embedded, so that a host without a compiler can run them.
//!
//! [`all`] lists them, [`find`] finds one by name. Each is a folder of `examples/` with a `tower.toml`, which says what its modules and
//! definitions are and how to trigger it, and a README.
#![warn(missing_docs)]

/// A folder of `examples/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// The folder's name, as in `tower run example:NAME`.
    pub name: &'static str,
    /// Its `tower.toml`: the example itself, its modules and its definitions.
    pub tower_toml: &'static str,
    /// Its README, in Markdown.
    pub readme: &'static str,
    /// The components that `tower_toml` names, in its order.
    pub modules: &'static [ExampleModule],
}

/// A component, built and embedded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExampleModule {
    /// What `wasm://` references call it.
    pub name: &'static str,
    /// The component.
    pub wasm: &'static [u8],
}

impl std::fmt::Debug for ExampleModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExampleModule").field("name", &self.name).field("wasm_bytes", &self.wasm.len()).finish()
    }
}

/// Every example, by name.
pub fn all() -> &'static [Example] {
    EXAMPLES
}

/// The example of this name.
pub fn find(name: &str) -> Option<&'static Example> {
    EXAMPLES.iter().find(|example| example.name == name)
}

// `EXAMPLES`, written by build.rs.
include!(concat!(env!("OUT_DIR"), "/examples.rs"));
