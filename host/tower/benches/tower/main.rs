//! What the whole tower does, from outside: the real binary, real components, HTTP, durable settings, each figure beside its yardstick.
//!
//! `cargo bench -p tower-executors -p command-tower`, about half an hour. `-- --full` adds trees and runs of a million tasks, `-- --soak 30` half
//! an hour of work without a pause, `-- --only NAME` (repeatable) does no more than is named, `-- --on sqlite` or `postgres` no
//! more than on that. Prints a table and writes it as JSON to `target/bench/tower.json`, with the rows of the first program, which measures the sandbox alone. `docs/benchmarks.md` explains the rows.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on says where")]

#[cfg(target_os = "linux")]
mod containers;
mod control;
mod host;
mod hosts;
mod latency;
mod schedules;
mod table;
mod trees;

use std::time::Duration;

use host::{Backend, Host};
use table::Table;

/// What can be asked for, in the order in which it is done.
const PARTS: [&str; 12] = ["instance", "lone", "fan-out", "slots", "growth", "beside", "stopping", "control", "modules", "hosts", "schedules", "containers"];

/// What was asked for.
struct Wishes {
    full: bool,
    soak: Option<u64>,
    only: Vec<String>,
    on: Vec<Backend>,
}

impl Wishes {
    fn read() -> Self {
        let mut wishes = Self { full: false, soak: None, only: Vec::new(), on: Vec::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--full" => wishes.full = true,
                "--soak" => wishes.soak = Some(arguments.next().and_then(|minutes| minutes.parse().ok()).expect("--soak MINUTES")),
                "--only" => {
                    let part = arguments.next().unwrap_or_default();
                    assert!(PARTS.contains(&part.as_str()), "--only is one of {}", PARTS.join(", "));
                    wishes.only.push(part);
                }
                "--on" => {
                    let name = arguments.next().unwrap_or_default();
                    let known = Backend::ALL
                        .into_iter()
                        .find(|backend| backend.name().eq_ignore_ascii_case(&name) || (name == "postgres" && *backend == Backend::Postgres));
                    wishes.on.push(known.expect("--on sqlite or --on postgres"));
                }
                // Of cargo's own, and for the program beside this one.
                _ => {}
            }
        }
        wishes
    }

    /// The back ends that are measured.
    fn backends(&self) -> impl Iterator<Item = Backend> + '_ {
        Backend::ALL.into_iter().filter(|backend| self.on.is_empty() || self.on.contains(backend))
    }

    fn has(&self, part: &str) -> bool {
        if self.only.is_empty() { self.soak.is_none() } else { self.only.iter().any(|only| only == part) }
    }
}

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wishes = Wishes::read();
    // `cargo test --benches` only wants to know whether it runs.
    let brief = !std::env::args().any(|argument| argument == "--bench");
    let scale: u64 = if brief { 20 } else { 1 };
    let runs = if brief { 1 } else { 5 };
    let mut table = Table::new();
    if wishes.has("instance") {
        table.adopt("instance.json");
    }
    for backend in wishes.backends() {
        if wishes.has("lone") {
            let commit = latency::commit(&mut table, backend, 2_000 / scale).await;
            latency::lone(&mut table, backend, commit, 1_000 / scale).await;
        }
        if wishes.has("fan-out") {
            trees::fan_out(&mut table, backend, &[1_000 / scale, 10_000 / scale], runs).await;
        }
        if wishes.has("slots") {
            trees::slots(&mut table, backend, 10_000 / scale).await;
        }
        if wishes.has("growth") {
            let widths: &[u64] = if brief {
                &[3]
            } else if wishes.full {
                &[10, 21, 46, 99]
            } else {
                &[10, 21, 46]
            };
            trees::growth(&mut table, backend, widths, 100 / scale as usize).await;
        }
        if wishes.has("beside") {
            latency::beside(&mut table, backend, 100_000 / scale, 1_000 / scale).await;
        }
        if wishes.has("control") {
            control::cancel(&mut table, backend, 100_000 / scale, if brief { 1 } else { 3 }).await;
            control::pause(&mut table, backend, 100_000 / scale).await;
            control::start(&mut table, backend, 100_000 / scale, runs).await;
        }
        if wishes.full && wishes.only.is_empty() {
            trees::million(&mut table, backend, 1_000_000).await;
        }
    }
    if wishes.has("stopping") {
        let host = Host::start().await;
        host.install("probe").await;
        latency::stopping(&mut table, &host, 20 / scale).await;
        latency::crowd(&mut table, &host, 200 / scale).await;
        host.stop().await;
    }
    if wishes.has("modules") {
        control::uploads(&mut table, if brief { 1 } else { 5 }).await;
    }
    if wishes.has("hosts") {
        hosts::together(&mut table, 5_000 / scale, if brief { 1 } else { 3 }).await;
        hosts::elsewhere(&mut table, 1_000 / scale).await;
    }
    if wishes.has("schedules") {
        let (schedules, rest_sec) = if brief { (5_000, 3) } else { (100_000, 60) };
        schedules::due(&mut table, if brief { 500 } else { 10_000 }).await;
        schedules::at_rest(&mut table, schedules, Duration::from_secs(rest_sec)).await;
    }
    #[cfg(target_os = "linux")]
    if wishes.has("containers") {
        containers::starts(&mut table, 60 / scale).await;
    }
    if let Some(minutes) = wishes.soak {
        for backend in wishes.backends() {
            trees::soak(&mut table, backend, minutes).await;
        }
    }
    // What was asked for alone does not take the place of the whole.
    table.write_json(if wishes.only.is_empty() && wishes.on.is_empty() && wishes.soak.is_none() { "tower.json" } else { "tower-part.json" });
}
