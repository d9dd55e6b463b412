//! The binary `tower`: REST, command line, and the wiring of everything below.
//!
//! In reading order:
//!
//! - `config`: what an operator may set
//! - `app`: stores, sandbox, engine and server, wired together, started and stopped
//! - `server`: connections
//! - `api`: REST
//! - `cli`: the command line; but for `serve` and `run`, a client of the REST API like any other

mod api;
mod app;
mod cli;
mod config;
mod server;

pub use cli::main;
