//! The binary `tower`: REST, command line, and the wiring of everything below.
//!
//! In reading order:
//!
//! - `config`: what an operator may set
//! - `app`: stores, sandbox, engine and server, wired together, started and stopped
//! - `sessions`: sessions and their workspaces
//! - `server`: connections
//! - `api`: REST
//! - `cli`: the command line; but for `serve` and `run`, a client of the REST API like any other

mod api;
mod app;
mod cli;
mod config;
mod server;
mod sessions;

pub use cli::main;

/// A page of docs/ that is made from the code is what the code says; with UPDATE_DOCS it is written.
#[cfg(test)]
fn docs_are_up_to_date(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "docs/{name} is not what the code says: UPDATE_DOCS=1 cargo test -p command-tower --lib docs");
}
