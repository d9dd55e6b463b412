//! What the whole tower does, from outside: the real binary, real components, HTTP, durable settings, each figure beside its yardstick.
//!
//! `cargo bench -p command-tower`, a few minutes; `cargo bench -p command-tower -- --full` also runs a million tasks. Prints a table and
//! writes it as JSON to `target/bench/tower.json`. `docs/benchmarks.md` explains the rows.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

mod host;
mod rows;
mod table;

use host::Host;
use table::Table;

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let full = std::env::args().any(|argument| argument == "--full");
    // `cargo test --benches` only wants to know whether it runs.
    let brief = !std::env::args().any(|argument| argument == "--bench");
    let mut table = Table::new();
    let scale = if brief { 20 } else { 1 };

    let commit = rows::commit(&mut table, 2_000 / scale).await;
    let mut host = Host::start().await;
    table.row("resident memory, idle", host.resident_mib(), "MiB").goal("60 MiB at most");
    host.install("probe").await;
    rows::latency(&mut table, &host, commit, 1_000 / scale).await;
    for children in [1_000, 10_000] {
        rows::fan_out(&mut table, &host, children / scale, if brief { 1 } else { 5 }).await;
    }
    rows::pages(&mut table, &host, 10_000 / scale, 50 / scale).await;
    rows::stopping(&mut table, &host, 20 / scale).await;
    rows::crowd(&mut table, &host, 200 / scale).await;
    rows::uploads(&mut table, &mut host).await;
    rows::cancel(&mut table, &host, 100_000 / scale).await;
    if full {
        rows::million(&mut table, 1_000_000).await;
    }
    host.stop().await;
    table.write_json();
}
