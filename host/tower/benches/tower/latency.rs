//! Rows about how long one small trace takes: alone, and beside others.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use tower_domain::clock::{Clock, SystemClock, Timestamp};

use crate::host::{Backend, DISK, Host, client, cluster};
use crate::table::{Table, median, millis, p99};

/// The yardstick `c`: one durable commit of one row on this disk. Answers the median.
pub(crate) async fn commit(table: &mut Table, backend: Backend, commits: u64) -> Duration {
    let mut times = Vec::new();
    let (create, insert) = ("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)", "INSERT INTO t (id, text) VALUES ($1, 'one row')");
    macro_rules! commit_on {
        ($database:expr) => {{
            let mut database = $database;
            sqlx::query(create).execute(&mut database).await.unwrap();
            for number in 0..commits as i32 {
                let begin = Instant::now();
                sqlx::query(insert).bind(number).execute(&mut database).await.unwrap();
                times.push(begin.elapsed());
            }
        }};
    }
    match backend {
        Backend::Sqlite => {
            let folder = tempfile::tempdir_in(DISK).unwrap();
            let options = SqliteConnectOptions::new().filename(folder.path().join("yardstick.db")).create_if_missing(true);
            commit_on!(options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full).connect().await.unwrap());
        }
        Backend::Postgres => {
            let database = cluster().database();
            commit_on!(database.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap().connect().await.unwrap());
        }
    }
    table.times(&format!("c on {}: one durable single-row commit", backend.name()), times.clone());
    median(times)
}

/// Trigger → finished, one step that does nothing; and how many transactions that takes.
pub(crate) async fn lone(table: &mut Table, backend: Backend, commit: Duration, times: u64) {
    let host = Host::on(backend, &[]).await;
    let resident = host.resident_mib();
    host.install("probe").await;
    table.row(&format!("resident memory, idle, {}", backend.name()), resident, "MiB").goal("60 MiB at most");
    let goal = format!("p50 {:.2} ms (2 c + 0.7), p99 {:.2} ms (4 c + 3)", 2.0 * millis(commit) + 0.7, 4.0 * millis(commit) + 3.0);
    for (keeps, name) in [(true, "keep-alive client"), (false, "plain client")] {
        let seen = lone_times(&host, &client(keeps), times).await;
        table.times(&format!("trigger → finished over HTTP, {name}, {}", backend.name()), seen).goal(&goal);
    }
    host.stop().await;
    // Counted on a host that does nothing else.
    let host = Host::on(backend, &[]).await;
    host.install("probe").await;
    lone_times(&host, &client(true), times).await;
    let (batches, _) = host.stop().await;
    table.row(&format!("durable commits for a lone task, {}", backend.name()), batches as f64 / (times + WARM_UP) as f64, "").goal("2");
}

/// Runs before those that count.
const WARM_UP: u64 = 20;

async fn lone_times(host: &Host, client: &Client, times: u64) -> Vec<Duration> {
    let mut seen = Vec::new();
    for turn in 0..times + WARM_UP {
        let took = once(host, client).await;
        if turn >= WARM_UP {
            seen.push(took);
        }
    }
    seen
}

pub(crate) async fn once(host: &Host, client: &Client) -> Duration {
    let body = json!({ "definition": "probe-exec", "params": { "do": "echo", "value": 1 } });
    let begin = Instant::now();
    let response = client.post(format!("{}/api/v1/traces?wait=60s", host.url)).json(&body).send().await.unwrap();
    let trace: Value = response.json().await.unwrap();
    let took = begin.elapsed();
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    took
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
        seen.push(once(host, &client).await);
    }
    host.ask(Method::POST, &format!("/api/v1/traces/{crowd}/cancel"), Some(json!({}))).await;
    host.ended(&crowd).await;
    table.times("trigger → finished beside 50 endless loops", seen);
}

/// What others notice of a trace that is very large: a small one, a reader, and one who watches it.
pub(crate) async fn beside(table: &mut Table, backend: Backend, children: u64, times: u64) {
    let host = Host::on(backend, &[]).await;
    host.install("probe").await;
    let client = client(true);
    let alone = p99(lone_times(&host, &client, times).await);
    let (mut small, mut pages, mut lags) = (Vec::new(), Vec::new(), Vec::new());
    // As often as it takes: one run of it is over soon.
    while small.len() < times as usize {
        let large = host.trigger(json!({ "do": "split", "n": children, "params": { "do": "echo", "value": 1 } })).await;
        let running = |trace: &Value| trace["counts"]["success"].as_u64() >= Some(1);
        host.until(&large, running).await;
        let watched = tokio::spawn(watch(host.client.clone(), format!("{}/api/v1/traces/{large}/events", host.url)));
        loop {
            let took = once(&host, &client).await;
            let begin = Instant::now();
            let page = host.ask(Method::GET, &format!("/api/v1/traces/{large}/tasks?limit=100"), None).await;
            let read = begin.elapsed();
            assert_eq!(page["items"].as_array().unwrap().len(), 100);
            if host.ask(Method::GET, &format!("/api/v1/traces/{large}"), None).await["finished_at"].is_string() {
                break;
            }
            small.push(took);
            pages.push(read);
        }
        lags.extend(watched.await.unwrap());
    }
    let name = backend.name();
    let row = table.times(&format!("trigger → finished beside a trace of {children}, {name}"), small);
    row.goal(&format!("p99 {:.1} ms (5 times that alone, {:.1} ms)", 5.0 * millis(alone), millis(alone)));
    table.times(&format!("  page of 100 of its tasks meanwhile, {name}"), pages);
    table.times(&format!("  its events over SSE: behind by, {name}"), lags);
    host.stop().await;
}

/// Watches a trace to its end, and answers by how much its events came later than the transactions began that made them.
async fn watch(client: Client, url: String) -> Vec<Duration> {
    let (mut lags, begin) = (Vec::new(), SystemClock.now());
    let response = client.get(url).header("accept", "text/event-stream").send().await.unwrap();
    assert!(response.status().is_success());
    let (mut bytes, mut stream) = (Vec::new(), response.bytes_stream());
    while let Some(Ok(more)) = stream.next().await {
        bytes.extend_from_slice(&more);
        let now = SystemClock.now();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data: ".as_slice()) {
                let event: Value = serde_json::from_slice(data).unwrap();
                // What happened before is read, and not waited for.
                if let Some(at) = event["timestamp_ms"].as_i64().map(|ms| Timestamp::from_micros(ms * 1_000)).filter(|at| *at >= begin) {
                    lags.push(now.since(at));
                }
            }
        }
    }
    lags
}
