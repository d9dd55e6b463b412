//! The rows, each a function: what is done, and what is measured of it.

use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use crate::host::{Host, client};
use crate::table::{Table, millis};

/// The yardstick `c`: one durable commit of one row on this disk. Answers the median.
pub(crate) async fn commit(table: &mut Table, commits: u64) -> Duration {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = SqliteConnectOptions::new().filename(folder.path().join("yardstick.db")).create_if_missing(true);
    let mut database = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full).connect().await.unwrap();
    sqlx::query("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)").execute(&mut database).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..commits {
        let begin = Instant::now();
        sqlx::query("INSERT INTO t (text) VALUES ('one row')").execute(&mut database).await.unwrap();
        times.push(begin.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    table.times("c: one durable single-row commit", times);
    median
}

/// Trigger → finished, one step that does nothing.
pub(crate) async fn latency(table: &mut Table, host: &Host, commit: Duration, times: u64) {
    let goal = format!("p50 {:.2} ms (2 c + 0.7), p99 {:.2} ms (4 c + 3)", 2.0 * millis(commit) + 0.7, 4.0 * millis(commit) + 3.0);
    for (keeps, name) in [(true, "trigger → finished over HTTP, keep-alive client"), (false, "trigger → finished over HTTP, plain client")] {
        let client = client(keeps);
        let mut seen = Vec::new();
        for turn in 0..times + 20 {
            let took = run_once(host, &client).await;
            // The first ones warm up.
            if turn >= 20 {
                seen.push(took);
            }
        }
        table.times(name, seen).goal(&goal);
    }
}

async fn run_once(host: &Host, client: &Client) -> Duration {
    let body = json!({ "definition": "probe-exec", "params": { "do": "echo", "value": 1 } });
    let begin = Instant::now();
    let response = client.post(format!("{}/api/v1/traces?wait=60s", host.url)).json(&body).send().await.unwrap();
    let trace: Value = response.json().await.unwrap();
    let took = begin.elapsed();
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    took
}

/// One agent, `children` steps that do nothing, and the join; what it costs in time, processor and disk.
pub(crate) async fn fan_out(table: &mut Table, host: &Host, children: u64, times: u64) {
    let (mut rates, mut cpu, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        let (cpu_before, bytes_before, begin) = (host.cpu(), host.database_bytes(), Instant::now());
        let trace = host.trigger(json!({ "do": "split", "n": children, "params": { "do": "echo", "value": 1 } })).await;
        let ended = host.ended(&trace).await;
        assert_eq!(ended["counts"]["success"], children + 1, "{ended}");
        rates.push(children as f64 / begin.elapsed().as_secs_f64());
        cpu.push((host.cpu() - cpu_before).as_secs_f64() * 1e6 / children as f64);
        bytes.push(host.database_bytes().saturating_sub(bytes_before) as f64 / children as f64);
    }
    let (slowest, fastest) = (min(&rates), max(&rates));
    let row = table.row(&format!("fan-out and join of {children} components"), median(&mut rates), "tasks/s");
    row.note(&format!("{slowest:.0} to {fastest:.0}")).goal("5 000 here, 20 000 later; Restate 380–720, DBOS 50–170, Obelisk 130–150");
    table.row(&format!("  processor for a task, of {children}"), median(&mut cpu), "µs").goal("40 µs over the instance itself");
    // A small tree fits into the room that the database's log has already.
    if children >= 10_000 {
        table.row(&format!("  database for a task, of {children}"), median(&mut bytes), "bytes").goal("1 536 bytes at most");
    }
}

/// A page of a hundred tasks out of a large trace.
pub(crate) async fn pages(table: &mut Table, host: &Host, children: u64, times: u64) {
    let trace = host.trigger(json!({ "do": "split", "n": children, "params": { "do": "echo", "value": 1 } })).await;
    host.ended(&trace).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for _ in 0..times.max(1) {
        let begin = Instant::now();
        let page = host.ask(Method::GET, &format!("/api/v1/traces/{trace}/tasks?limit=100{cursor}"), None).await;
        seen.push(begin.elapsed());
        cursor = page["next_cursor"].as_str().map_or_else(String::new, |next| format!("&cursor={next}"));
    }
    table.times(&format!("page of 100 tasks out of {children}"), seen).goal("5 ms out of 1 000 000");
}

/// How long after its timeout an endless loop ends.
pub(crate) async fn stopping(table: &mut Table, host: &Host, times: u64) {
    let spec = json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "timeout_sec": 1, "max_retries": 0 });
    host.ask(Method::PUT, "/api/v1/definitions/brief", Some(spec)).await;
    let mut seen = Vec::new();
    for _ in 0..times.max(1) {
        let begin = Instant::now();
        let body = json!({ "definition": "brief", "params": { "do": "loop" } });
        host.ask(Method::POST, "/api/v1/traces?wait=60s", Some(body)).await;
        seen.push(begin.elapsed().saturating_sub(Duration::from_secs(1)));
    }
    table.times("endless loop: stopped after its time", seen).goal("p99 20 ms");
}

/// A small trace beside a crowd of endless loops.
pub(crate) async fn crowd(table: &mut Table, host: &Host, times: u64) {
    let crowd = host.trigger(json!({ "do": "split", "n": 50, "params": { "do": "loop" } })).await;
    host.until(&crowd, |trace| trace["counts"]["running"].as_u64() > Some(45)).await;
    let client = client(true);
    let mut seen = Vec::new();
    for _ in 0..times.max(1) {
        seen.push(run_once(host, &client).await);
    }
    host.ask(Method::POST, &format!("/api/v1/traces/{crowd}/cancel"), Some(json!({}))).await;
    host.ended(&crowd).await;
    table.times("trigger → finished beside 50 endless loops", seen);
}

/// A module: upload → ready, again after a restart, and the host's memory meanwhile.
pub(crate) async fn uploads(table: &mut Table, host: &mut Host) {
    let probe = command_tower_examples::find("probe").unwrap().modules[0].wasm;
    let size = probe.len() as f64 / 1024.0;
    let before = host.resident_mib();
    let begin = Instant::now();
    // A custom section makes another module of it, so that it is compiled anew.
    host.upload("again", [probe, &[0, 3, 1, b'x', 7]].concat()).await;
    let took = begin.elapsed();
    let grown = host.resident_mib() - before;
    table
        .row(&format!("module of {size:.0} KiB: upload → ready"), millis(took), "ms")
        .note(&format!("the host's memory: {grown:+.1} MiB"))
        .goal("3 s for 2 MB");
    host.restart().await;
    let begin = Instant::now();
    let took = run_once(host, &client(true)).await;
    table.row("first step after a restart, from the kept image", millis(took), "ms").note(&format!("{:.0} ms after it was ready", millis(begin.elapsed())));
}

/// Cancel of a trace with very many open tasks.
pub(crate) async fn cancel(table: &mut Table, host: &Host, children: u64) {
    let spec = json!({ "do": "split", "n": children, "params": { "do": "nap_in_host", "ms": 600_000 } });
    let trace = host.trigger(spec).await;
    host.until(&trace, |trace| trace["counts"]["pending"].as_u64() > Some(children / 2)).await;
    table.row(&format!("resident memory with {children} tasks queued"), host.resident_mib(), "MiB").goal("120 MiB at most");
    let begin = Instant::now();
    host.ask(Method::POST, &format!("/api/v1/traces/{trace}/cancel"), Some(json!({}))).await;
    let answered = begin.elapsed();
    let ended = host.ended(&trace).await;
    assert_eq!(ended["status"], "CANCELLED", "{ended}");
    let row = table.row(&format!("cancel of {children} open tasks: all terminal"), millis(begin.elapsed()), "ms");
    row.note(&format!("answered after {:.0} ms", millis(answered))).goal("nothing starts after 50 ms, all within 1 s");
}

/// A million tasks in traces of 50 000.
pub(crate) async fn million(table: &mut Table, tasks: u64) {
    let host = Host::start().await;
    host.install("probe").await;
    let (begin, cpu) = (Instant::now(), host.cpu());
    let mut rates = Vec::new();
    for _ in 0..tasks / 50_000 {
        let begin = Instant::now();
        let trace = host.trigger(json!({ "do": "split", "n": 50_000, "params": { "do": "echo", "value": 1 } })).await;
        host.ended(&trace).await;
        rates.push(50_000.0 / begin.elapsed().as_secs_f64());
    }
    let rate = tasks as f64 / begin.elapsed().as_secs_f64();
    let (first, last) = (rates[0], rates[rates.len() - 1]);
    table.row(&format!("{tasks} tasks, fan-outs of 50 000"), rate, "tasks/s").note(&format!("the first {first:.0}, the last {last:.0}"));
    table.row("  processor for a task", (host.cpu() - cpu).as_secs_f64() * 1e6 / tasks as f64, "µs");
    table.row("  resident memory afterwards", host.resident_mib(), "MiB").goal("150 MiB at most");
    table.row("  database for a task", host.database_bytes() as f64 / tasks as f64, "bytes").goal("1 536 bytes at most");
    host.stop().await;
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn min(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

fn max(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(0.0, f64::max)
}
