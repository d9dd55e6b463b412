//! Rows about several hosts on one PostgreSQL, which share this machine with it.

use std::time::Instant;

use reqwest::Method;
use serde_json::json;

use crate::host::{Backend, Host, client};
use crate::latency::once;
use crate::table::Table;

/// Tasks a second with one, two and three hosts, and that no claim was made twice.
pub(crate) async fn together(table: &mut Table, children: u64, rounds: usize) {
    for count in 1..=3 {
        let database = Backend::Postgres.database().unwrap();
        let mut hosts = Vec::new();
        for _ in 0..count {
            hosts.push(Host::with(Some(database.clone()), &[]).await);
        }
        hosts[0].install("probe").await;
        let mut rates = Vec::new();
        // The first round warms up.
        for round in 0..=rounds {
            let begin = Instant::now();
            let mut traces = Vec::new();
            for number in 0..4 {
                let params = json!({ "do": "split", "n": children, "params": { "do": "echo", "value": 1 } });
                traces.push(hosts[number % count].trigger(params).await);
            }
            for trace in traces {
                assert_eq!(hosts[0].ended(&trace).await["status"], "SUCCESS");
            }
            if round > 0 {
                rates.push(4.0 * children as f64 / begin.elapsed().as_secs_f64());
            }
        }
        // As many starts as tasks, and one more for the fold of each trace and for each claim that was given back before it began.
        let starts = database.ask(
            "SELECT count(*) - (SELECT count(*) FROM tasks) - (SELECT count(*) FROM traces) - (SELECT count(*) FROM attempts WHERE result = 'RELEASED') \
             FROM events WHERE event_type = 0",
        );
        assert_eq!(starts, "0", "starts that are one too many");
        let row = table.spread(&format!("{count} hosts on one PostgreSQL: 4 fan-outs of {children} at a time"), rates, "tasks/s");
        row.goal("8 000").note("no claim twice");
        for host in hosts {
            host.stop().await;
        }
    }
}

/// What one host made ready, and another starts.
pub(crate) async fn elsewhere(table: &mut Table, times: u64) {
    let database = Backend::Postgres.database().unwrap();
    let first = Host::with(Some(database.clone()), &["--host-id", "first"]).await;
    first.install("probe").await;
    // From now on it answers, and runs nothing.
    first.ask(Method::POST, "/api/v1/hosts/first/drain", None).await;
    let second = Host::with(Some(database.clone()), &[]).await;
    let client = client(true);
    let mut seen = Vec::new();
    for turn in 0..times + 20 {
        let took = once(&first, &client).await;
        if turn >= 20 {
            seen.push(took);
        }
    }
    table.times("asked of one host, run by another, and answered by the first", seen);
    // Without those that warm up.
    let late = "SELECT string_agg(greatest(t.started_at - t.created_at, 0)::text, ',') \
        FROM (SELECT * FROM tasks WHERE finished_at IS NOT NULL ORDER BY created_at OFFSET 20) AS t";
    let micros = database.ask(late);
    let started = micros.split(',').map(|text| std::time::Duration::from_micros(text.parse().unwrap())).collect();
    table.times("  ready at one host → started at another", started).goal("p99 20 ms");
    second.stop().await;
    first.stop().await;
}
