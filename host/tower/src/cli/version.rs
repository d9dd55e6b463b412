//! `tower version`.

use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::output::fields;

#[derive(Serialize)]
struct Versions {
    version: &'static str,
    contracts: &'static [&'static str],
}

pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let versions = Versions { version: env!("CARGO_PKG_VERSION"), contracts: tower_executors::wasm::CONTRACT_VERSIONS };
    context.out.made(&versions, versions.version, |term| fields(term, &[("tower", versions.version.to_owned()), ("contracts", versions.contracts.join(", "))]))
}
