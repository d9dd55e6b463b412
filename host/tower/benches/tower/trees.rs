//! Rows about trees: what a task costs in time, processor and disk, and how that grows.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::host::{Backend, Host, Usage};
use crate::table::Table;

/// What one fan-out and join came to.
struct Run {
    tasks: u64,
    took: Duration,
    before: Usage,
    after: Usage,
}

impl Run {
    fn rate(&self) -> f64 {
        self.tasks as f64 / self.took.as_secs_f64()
    }

    fn cpu_micros(&self) -> f64 {
        (self.after.cpu - self.before.cpu).as_secs_f64() * 1e6 / self.tasks as f64
    }

    fn kept(&self) -> f64 {
        self.after.kept.saturating_sub(self.before.kept) as f64 / self.tasks as f64
    }

    fn written(&self) -> f64 {
        (self.after.written - self.before.written) as f64 / self.tasks as f64
    }
}

/// One agent, `children` steps that do nothing, and the join.
async fn fan(host: &Host, children: u64) -> Run {
    let (before, begin) = (host.usage(), Instant::now());
    let trace = host.trigger(json!({ "do": "split", "n": children, "params": { "do": "echo", "value": 1 } })).await;
    let ended = host.ended(&trace).await;
    assert_eq!(ended["counts"]["success"], children + 1, "{ended}");
    Run { tasks: children, took: begin.elapsed(), before, after: host.usage() }
}

fn of(runs: &[Run], what: impl Fn(&Run) -> f64) -> Vec<f64> {
    runs.iter().map(what).collect()
}

/// The same sizes again and again: time, processor and disk for a task. The last of them also says what share of a durable commit it takes.
pub(crate) async fn fan_out(table: &mut Table, backend: Backend, sizes: &[u64], times: usize) {
    for children in sizes {
        let host = Host::on(backend, &[]).await;
        host.install("probe").await;
        fan(&host, 100).await;
        let mut runs = Vec::new();
        for _ in 0..times {
            runs.push(fan(&host, *children).await);
        }
        let name = backend.name();
        let goal = match backend {
            Backend::Sqlite => "20 000; Restate 380–720, DBOS 50–170, Obelisk 130–150",
            Backend::Postgres => "8 000",
        };
        table.spread(&format!("fan-out and join of {children} components, {name}"), of(&runs, Run::rate), "tasks/s").goal(goal);
        table.spread("  processor of the host for a task", of(&runs, Run::cpu_micros), "µs").goal("40 µs over the instance itself");
        // A small tree fits into the room that the log has already.
        if *children >= 10_000 {
            table.spread("  database for a task", of(&runs, Run::kept), "bytes").goal("1 536 bytes at most");
            if backend == Backend::Sqlite {
                table.spread("  written to the disk for a task", of(&runs, Run::written), "bytes").note("log and database");
            }
        }
        let (resident, peak) = host.memory_mib();
        table.row("  resident memory afterwards", resident, "MiB").note(&format!("at the most {peak:.0} MiB"));
        let (batches, commands) = host.stop().await;
        let tasks = 100 + *children * times as u64;
        table
            .row("  durable commits for a task", batches as f64 / tasks as f64, "")
            .goal("0.01")
            .note(&format!("{:.0} commands each", commands as f64 / batches.max(1) as f64));
    }
}

/// The same tree with more and more steps at the same time.
pub(crate) async fn slots(table: &mut Table, backend: Backend, children: u64) {
    for slots in ["1", "2", "4", "8"] {
        let host = Host::on(backend, &["--slots", slots]).await;
        host.install("probe").await;
        fan(&host, 100).await;
        let mut runs = Vec::new();
        for _ in 0..3 {
            runs.push(fan(&host, children).await);
        }
        table.spread(&format!("fan-out and join of {children}, {slots} slots, {}", backend.name()), of(&runs, Run::rate), "tasks/s");
        host.stop().await;
    }
}

/// Trees that grow, each on a fresh database; in one trace of three levels, as wide as it is said.
pub(crate) async fn growth(table: &mut Table, backend: Backend, widths: &[u64], times: usize) {
    for width in widths {
        let tasks = 1 + width + width * width + width * width * width;
        let host = Host::on(backend, &[]).await;
        host.install("probe").await;
        fan(&host, 100).await;
        let (before, begin) = (host.usage(), Instant::now());
        let params = json!({ "do": "tree", "width": width, "depth": 3, "leaf": { "do": "echo", "value": 1 }, "leaf_definition": "probe-exec" });
        let trace = host.trigger(params).await;
        let ended = host.ended(&trace).await;
        assert_eq!(ended["counts"]["success"], tasks, "{ended}");
        let run = Run { tasks, took: begin.elapsed(), before, after: host.usage() };
        let name = backend.name();
        table.row(&format!("a tree of three levels, {tasks} tasks, {name}"), run.rate(), "tasks/s");
        table.row("  processor of the host for a task", run.cpu_micros(), "µs");
        table.row("  database for a task", run.kept(), "bytes").goal("1 536 bytes at most");
        let (resident, peak) = host.memory_mib();
        table.row("  resident memory afterwards", resident, "MiB").note(&format!("at the most {peak:.0} MiB"));
        let (mut pages, mut cursor, mut traces) = (Vec::new(), String::new(), Vec::new());
        for _ in 0..times.max(1) {
            let begin = Instant::now();
            let page = host.ask(Method::GET, &format!("/api/v1/traces/{trace}/tasks?limit=100{cursor}"), None).await;
            pages.push(begin.elapsed());
            cursor = page["next_cursor"].as_str().map_or_else(String::new, |next| format!("&cursor={next}"));
            let begin = Instant::now();
            host.ask(Method::GET, &format!("/api/v1/traces/{trace}"), None).await;
            traces.push(begin.elapsed());
        }
        table.times("  page of 100 of its tasks", pages).goal("5 ms out of 1 000 000");
        table.times("  the trace itself", traces);
        host.stop().await;
    }
}

/// A million tasks in traces of 50 000.
pub(crate) async fn million(table: &mut Table, backend: Backend, tasks: u64) {
    let host = Host::on(backend, &[]).await;
    host.install("probe").await;
    let (before, begin) = (host.usage(), Instant::now());
    let mut rates = Vec::new();
    for _ in 0..tasks / 50_000 {
        rates.push(fan(&host, 50_000).await.rate());
    }
    let run = Run { tasks, took: begin.elapsed(), before, after: host.usage() };
    let (first, last) = (rates[0], rates[rates.len() - 1]);
    let row = table.row(&format!("{tasks} tasks in fan-outs of 50 000, {}", backend.name()), run.rate(), "tasks/s");
    row.note(&format!("the first {first:.0}, the last {last:.0}"));
    table.row("  processor of the host for a task", run.cpu_micros(), "µs");
    let (resident, peak) = host.memory_mib();
    table.row("  resident memory afterwards", resident, "MiB").goal("150 MiB at most").note(&format!("at the most {peak:.0} MiB"));
    table.row("  database for a task", run.kept(), "bytes").goal("1 536 bytes at most");
    host.stop().await;
}

/// For so many minutes one trace after the other, and what becomes of memory and speed.
pub(crate) async fn soak(table: &mut Table, backend: Backend, minutes: u64) {
    let host = Host::on(backend, &[]).await;
    host.install("probe").await;
    let begin = Instant::now();
    let (mut rates, mut resident, mut tasks) = (Vec::new(), Vec::new(), 0);
    while begin.elapsed() < Duration::from_secs(60 * minutes) {
        let run = fan(&host, 20_000).await;
        tasks += run.tasks;
        rates.push(run.rate());
        resident.push(host.resident_mib());
    }
    let tenth = (rates.len() / 10).max(1);
    let mean = |figures: &[f64]| figures.iter().sum::<f64>() / figures.len() as f64;
    let ends = |figures: &[f64]| (mean(&figures[..tenth]), mean(&figures[figures.len() - tenth..]));
    let ((first, last), (early, late)) = (ends(&rates), ends(&resident));
    let row = table.spread(&format!("{tasks} tasks in {minutes} minutes, {}", backend.name()), rates, "tasks/s");
    row.note(&format!("the first tenth {first:.0}, the last {last:.0}"));
    let (now, peak) = host.memory_mib();
    table.row("  resident memory afterwards", now, "MiB").note(&format!("over the first tenth {early:.0}, the last {late:.0}, at the most {peak:.0} MiB"));
    host.stop().await;
}
