//! Bytes → what they are, or why the tower does not take them. Needs no engine and runs nothing, so that the command line can ask as
//! well as the upload.
//!
//! In this order, the cheap and telling checks first: is it a component ([`recognise`](recognise()) guesses what else it may be),
//! does it use only what the engine has on, does its size stay in bounds ([`shape`]), does it fit the contract ([`contract`]), does
//! it import only what is there.

mod contract;
mod imports;
mod producers;
mod shape;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tower_domain::code_ref::Digest;
use tower_domain::module::Inspection;
use tower_domain::task::clean;
use wasmparser::{Parser, Validator, WasmFeatures};
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{Resolve, WorldId};

pub use contract::CONTRACT_VERSIONS;

/// Proposals that Wasmtime would have on and the tower has off: what they add to the surface, no guest needs.
pub(crate) const FEATURES_OFF: WasmFeatures = WasmFeatures::GC
    .union(WasmFeatures::GC_TYPES)
    .union(WasmFeatures::FUNCTION_REFERENCES)
    .union(WasmFeatures::EXCEPTIONS)
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::MEMORY64)
    .union(WasmFeatures::CM_ASYNC);

const FEATURES_ON: WasmFeatures = WasmFeatures::WASM3.union(WasmFeatures::COMPONENT_MODEL).difference(FEATURES_OFF);

/// Longest text of a refusal, in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Why a component is not taken. The text is fit for a terminal, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InspectError {
    /// Something else.
    #[error("{0}")]
    NotAComponent(String),
    /// Native code.
    #[error("a component that was compiled to native code already; push the .wasm file itself, the tower compiles it")]
    Precompiled,
    /// A component for another host, or for a contract that this tower does not run.
    #[error("{0}")]
    WorldMismatch(String),
    /// It imports what is not there.
    #[error("it imports what the tower does not have: {}{hint}", .imports.join(", "))]
    UnknownImport {
        /// What.
        imports: Vec<String>,
        /// What to do, with a leading separator.
        hint: String,
    },
    /// It imports what the tower never gives.
    #[error(
        "it imports what the tower does not give: {}. A module gets clocks, random numbers, standard output and error, and (where its definition grants a workspace) files to read; no network, no other WASI interfaces",
        .imports.join(", ")
    )]
    ImportDenied {
        /// What.
        imports: Vec<String>,
    },
    /// It uses a proposal that is off.
    #[error(
        "it uses a WebAssembly feature that is off here: {0}. Off are threads and shared memory, 64-bit memories, garbage collection, exceptions and component-model async (WASI 0.3)"
    )]
    FeatureOff(String),
    /// It is too large in one way or another to ever run.
    #[error("{0}")]
    StaticLimit(String),
    /// The compiler gave up on it.
    #[error("{0}")]
    CompileLimit(String),
}

impl InspectError {
    /// The stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAComponent(_) => "NOT_A_COMPONENT",
            Self::Precompiled => "PRECOMPILED",
            Self::WorldMismatch(_) => "WORLD_MISMATCH",
            Self::UnknownImport { .. } => "UNKNOWN_IMPORT",
            Self::ImportDenied { .. } => "IMPORT_DENIED",
            Self::FeatureOff(_) => "FEATURE_OFF",
            Self::StaticLimit(_) => "STATIC_LIMIT",
            Self::CompileLimit(_) => "COMPILE_LIMIT",
        }
    }

    /// Names inside the bytes are the author's: they go into no message as they are.
    pub(crate) fn cleaned(text: &str) -> String {
        clean(text, MESSAGE_BYTES_MAX)
    }
}

/// Reads what a component is.
///
/// # Errors
/// The first thing that keeps the tower from running it.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, InspectError> {
    recognise(bytes)?;
    validate(bytes)?;
    shape::check(bytes)?;
    let (resolve, world) = decode(bytes)?;
    let names = imports::Names::of(&resolve, world);
    let exports = contract::check_exports(&resolve, world, &names.exports)?;
    imports::check(&resolve, world)?;
    Ok(Inspection {
        digest: digest(bytes),
        size_bytes: bytes.len() as u64,
        contract: exports.contract,
        exports: names.exports,
        imports: names.imports,
        // Files are asked for by path, not by an interface of their own (every Rust program imports wasi:filesystem), so that an
        // import cannot tell whether a workspace is needed.
        capabilities: Vec::new(),
        aggregates: exports.aggregates,
        wit: print(&resolve, world),
        language: producers::language(bytes),
    })
}

/// SHA-256 of a module's bytes: its identity.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Whether the bytes begin as a component; else what they look like.
fn recognise(bytes: &[u8]) -> Result<(), InspectError> {
    if Parser::is_component(bytes) {
        return Ok(());
    }
    let what = if bytes.is_empty() {
        "the file is empty"
    } else if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(InspectError::Precompiled);
    } else if Parser::is_core_wasm(bytes) {
        "a core WebAssembly module, not a component: build with `--target wasm32-wasip2`"
    } else if bytes.starts_with(b"\0asm") {
        "WebAssembly of a version that the tower does not know"
    } else if bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"MZ") {
        "a native program, not a WebAssembly component: build with `--target wasm32-wasip2`"
    } else if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        "an archive or a compressed file: push the .wasm file inside"
    } else if bytes.trim_ascii_start().starts_with(b"(") || bytes.trim_ascii_start().starts_with(b";;") {
        "WebAssembly text: turn it into a binary first (`wasm-tools parse`)"
    } else {
        "not a WebAssembly component"
    };
    Err(InspectError::NotAComponent(what.to_owned()))
}

fn validate(bytes: &[u8]) -> Result<(), InspectError> {
    let Err(error) = Validator::new_with_features(FEATURES_ON).validate_all(bytes) else { return Ok(()) };
    let text = InspectError::cleaned(&error.to_string());
    if text.contains("effective type size") || text.contains("exceeds limit") || text.contains("out of bounds: maximum") {
        return Err(InspectError::StaticLimit(format!("larger than any component may be: {text}")));
    }
    if Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).is_ok() {
        return Err(InspectError::FeatureOff(text));
    }
    Err(InspectError::NotAComponent(format!("the component is damaged or cut short: {text}")))
}

fn decode(bytes: &[u8]) -> Result<(Resolve, WorldId), InspectError> {
    // The decoder is made for trusted input: whatever it trips over is one upload's problem, not the host's.
    let decoded = catch_unwind(AssertUnwindSafe(|| wit_component::decode(bytes)));
    match decoded {
        Ok(Ok(DecodedWasm::Component(resolve, world))) => Ok((resolve, world)),
        Ok(Ok(DecodedWasm::WitPackage(..))) => Err(InspectError::NotAComponent("a WIT package: types without code".to_owned())),
        Ok(Err(error)) => Err(InspectError::NotAComponent(InspectError::cleaned(&format!("its types cannot be read: {error:#}")))),
        Err(_) => Err(InspectError::NotAComponent("its types cannot be read".to_owned())),
    }
}

/// The world as WIT text; empty if it has no text form.
fn print(resolve: &Resolve, world: WorldId) -> String {
    let Some(package) = resolve.worlds[world].package else { return String::new() };
    let mut printer = WitPrinter::default();
    printer.emit_docs(false);
    // The component's own package first, then those that it refers to.
    let others: Vec<_> = resolve.topological_packages().into_iter().filter(|other| *other != package).collect();
    match printer.print(resolve, package, &others) {
        Ok(()) => printer.output.to_string(),
        Err(_) => String::new(),
    }
}
