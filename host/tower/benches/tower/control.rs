//! Rows about ending, holding and starting very much at once.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::host::{Backend, Host, client};
use crate::latency::once;
use crate::table::{Table, millis};

/// A trace with very many open tasks, few of which run.
async fn open(host: &Host, children: u64) -> String {
    let trace = host.trigger(json!({ "do": "split", "n": children, "params": { "do": "nap_in_host", "ms": 600_000 } })).await;
    host.until(&trace, |trace| trace["counts"]["pending"].as_u64() > Some(children / 2)).await;
    trace
}

/// Cancel of a trace with very many open tasks.
pub(crate) async fn cancel(table: &mut Table, backend: Backend, children: u64, times: usize) {
    let host = Host::on(backend, &[]).await;
    host.install("probe").await;
    let (mut answered, mut all) = (Vec::new(), Vec::new());
    for turn in 0..times {
        let trace = open(&host, children).await;
        if turn == 0 {
            let (resident, peak) = host.memory_mib();
            let row = table.row(&format!("resident memory with {children} tasks queued, {}", backend.name()), resident, "MiB");
            row.goal("120 MiB at most").note(&format!("at the most {peak:.0} MiB"));
        }
        let begin = Instant::now();
        host.ask(Method::POST, &format!("/api/v1/traces/{trace}/cancel"), Some(json!({}))).await;
        answered.push(millis(begin.elapsed()));
        let ended = host.ended(&trace).await;
        all.push(millis(begin.elapsed()));
        let counts = &ended["counts"];
        assert_eq!((&ended["status"], &counts["pending"], &counts["running"]), (&json!("CANCELLED"), &json!(0), &json!(0)), "{ended}");
    }
    let what = format!("cancel of {children} open tasks: nothing of it can start, {}", backend.name());
    table.spread(&what, answered, "ms").goal("50 ms");
    table.spread("  all rows terminal", all, "ms").goal("1 s");
    host.stop().await;
}

/// Pause and resume of a trace with very many queued tasks.
pub(crate) async fn pause(table: &mut Table, backend: Backend, children: u64) {
    let host = Host::on(backend, &[]).await;
    host.install("probe").await;
    let trace = open(&host, children).await;
    for (verb, what, open) in [("pause", "nothing of it can start", "QUEUED"), ("resume", "all of it can", "PAUSED")] {
        let begin = Instant::now();
        let answer = host.ask(Method::POST, &format!("/api/v1/traces/{trace}/{verb}"), Some(json!({}))).await;
        let answered = begin.elapsed();
        while host.ask(Method::GET, &format!("/api/v1/traces/{trace}/tasks?phase={open}&limit=1"), None).await["items"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let row = table.row(&format!("{verb} of {children} queued tasks: answered, {what}, {}", backend.name()), millis(answered), "ms");
        row.note(&format!("all rows say so after {:.0} ms; {} changed", millis(begin.elapsed()), answer["changed"]));
    }
    host.ask(Method::POST, &format!("/api/v1/traces/{trace}/cancel"), Some(json!({}))).await;
    host.ended(&trace).await;
    host.stop().await;
}

/// A start on a database with very many open tasks, until the host is ready and until it runs something.
pub(crate) async fn start(table: &mut Table, backend: Backend, children: u64, times: usize) {
    let mut host = Host::on(backend, &[]).await;
    host.install("probe").await;
    let trace = open(&host, children).await;
    host.ask(Method::POST, &format!("/api/v1/traces/{trace}/pause"), Some(json!({}))).await;
    let (mut ready, mut ran) = (Vec::new(), Vec::new());
    for _ in 0..times {
        ready.push(millis(host.restart().await));
        ran.push(millis(once(&host, &client(true)).await));
    }
    table.spread(&format!("start to ready with {children} open tasks, {}", backend.name()), ready, "ms").goal("1 s");
    table.spread("  the first step then, its module from the compile cache", ran, "ms").goal("10 ms");
    host.ask(Method::POST, &format!("/api/v1/traces/{trace}/cancel"), Some(json!({}))).await;
    host.ended(&trace).await;
    host.stop().await;
}

/// A module: upload → ready, and the host's memory meanwhile.
pub(crate) async fn uploads(table: &mut Table, times: u8) {
    let host = Host::start().await;
    let probe = command_tower_examples::find("probe").unwrap().modules[0].wasm;
    let size = probe.len() as f64 / 1024.0;
    let before = host.resident_mib();
    let mut took = Vec::new();
    for number in 0..times {
        let begin = Instant::now();
        // A custom section makes another module of it, so that it is compiled anew.
        host.upload("again", [probe, &[0, 3, 1, b'x', number]].concat()).await;
        took.push(millis(begin.elapsed()));
    }
    let grown = host.resident_mib() - before;
    let row = table.spread(&format!("module of {size:.0} KiB: upload → ready"), took, "ms");
    row.note(&format!("the host's memory: {grown:+.1} MiB")).goal("3 s for 2 MB");
    host.stop().await;
}
