//! Steps as WebAssembly components, run in this process.
//!
//! From the outside in:
//!
//! - [`WasmExecutor`]: what the engine calls; [`WasmConfig`]: what the operator may set
//! - [`inspect`](inspect()): bytes → what they are, or why they are refused; needs no executor
//! - `modules`: components by digest, loaded once; `compile`: bytes → machine code, by processes of their own ([`compile_worker`] is what
//!   they do); `images`: machine code that is kept; `component`: what is ready to be instantiated
//! - `linker`: what a component can call at all; `host_functions`: the contract's imports; `stdio`: output into the log
//! - `run`: one step, from a fresh store to its end; `ends`: which end that is, with all the codes
//! - `guest_state`, `limits`: what one running component holds and may use
//! - `guest_runtime`: the threads that run components, and the ticker
//! - `bindings`, `convert`: the contract's types, and the domain's
//!
//! What holds: every step gets a store and an instance of its own, and they are dropped with it; all bounds are set before any code of
//! the component runs; no host function blocks; what comes out of a component is checked, and its text cleaned, before anybody
//! else sees it.

mod bindings;
mod compile;
mod component;
mod convert;
mod ends;
mod executor;
mod guest_runtime;
mod guest_state;
mod host_functions;
mod images;
mod inspect;
mod limits;
mod linker;
mod modules;
mod run;
mod settings;
mod stdio;

pub use compile::{CompileIn, CompileLimits, WorkerCommand, compile_worker};
pub use executor::{UPSTREAM_RESULTS_MAX, WasmExecutor};
pub use inspect::{CONTRACT_VERSIONS, InspectError, digest, inspect};
pub use modules::{LoadError, ModuleSource};
pub use settings::{CORE_INSTANCES_MAX, MEMORIES_MAX, SLOTS_MAX, SetupError, TABLE_ELEMENTS_MAX, TABLES_MAX, WasmConfig};
