//! The sandbox, tried with real components: the probe of `examples/`, and small ones written as text where a compiler would not let a
//! guest be bad enough. Names carry the ids of the catalogue of hostile guests where one applies.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up is to end")]

mod bench;
mod carrying;
mod compiling;
mod contract;
mod files;
mod guests;
mod hostile;
mod limits;
mod loading;
mod stopping;
mod upload;
