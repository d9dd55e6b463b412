//! What can be watched: the history, the live stream, logs, progress; and what may be said from outside.

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::host::Host;

/// One event of a stream: its name, id and data.
type Sent = (String, Option<u64>, Value);

/// Reads a stream to its end, or until `enough`.
async fn stream(host: &Host, path: &str, last: Option<u64>, enough: impl Fn(&[Sent]) -> bool) -> Vec<Sent> {
    let mut request = host.request(Method::GET, path).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let mut body = response.bytes_stream();
    let (mut text, mut sent) = (String::new(), Vec::new());
    while let Some(chunk) = body.next().await {
        text.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
            if let Some(name) = field("event:") {
                let data = serde_json::from_str(&field("data:").unwrap()).unwrap();
                sent.push((name, field("id:").map(|id| id.parse().unwrap()), data));
            }
            text = rest.to_owned();
        }
        if enough(&sent) {
            break;
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_a_snapshot_misses_nothing_and_ends() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "split", "n": 20, "params": { "do": "nap_in_host", "ms": 40 } })).await;
    let path = format!("/api/v1/traces/{trace}/events");
    let sent = stream(&host, &path, None, |_| false).await;
    assert_eq!(sent.first().unwrap().0, "snapshot");
    assert_eq!((sent.last().unwrap().0.as_str(), &sent.last().unwrap().2["status"]), ("end", &json!("SUCCESS")));
    let history = host.events(&trace).await;
    // Then the whole history, every event once and in order.
    let seqs: Vec<u64> = sent.iter().filter(|(name, ..)| !matches!(name.as_str(), "snapshot" | "end")).map(|(_, id, _)| id.unwrap()).collect();
    assert_eq!(seqs, (1..=history.len() as u64).collect::<Vec<_>>());
    // Resumed in the middle, it goes on from there.
    let resumed = stream(&host, &path, Some(10), |_| false).await;
    let seqs: Vec<u64> = resumed.iter().filter(|(name, ..)| !matches!(name.as_str(), "snapshot" | "end")).map(|(_, id, _)| id.unwrap()).collect();
    assert_eq!(seqs, (11..=history.len() as u64).collect::<Vec<_>>());
    // Who has seen it all is told not to come back.
    let done = host.request(Method::GET, &path).header("accept", "text/event-stream").header("last-event-id", history.len()).send().await.unwrap();
    assert_eq!(done.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_logs_and_partial_output_are_seen_while_a_step_runs() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "progress", "reports": 50, "pace_ms": 60 })).await;
    let seen = stream(&host, &format!("/api/v1/traces/{trace}/events"), None, |sent| sent.iter().any(|(name, ..)| name == "progress")).await;
    let progress = &seen.iter().find(|(name, ..)| name == "progress").unwrap().2;
    assert!(progress.to_string().contains("percent"), "{progress}");
    host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;

    let trace = host.run("probe", json!({ "do": "print", "stdout": "to stdout\n", "stderr": "to \u{1b}[31mstderr\n" })).await;
    let logs = host.get(&format!("/api/v1/traces/{}/logs", trace["trace_id"].as_str().unwrap())).await.to_string();
    assert!(logs.contains("to stdout") && logs.contains("STDERR") && !logs.contains("\\u001b["), "{logs}");
    let trace = host.run("probe", json!({ "do": "log", "lines": 3, "bytes": 10, "level": "warn" })).await;
    let logs = host.get(&format!("/api/v1/tasks/{}/logs", trace["root_task_id"].as_str().unwrap())).await;
    assert_eq!(logs["items"].as_array().unwrap().len(), 3, "{logs}");
    assert!(logs.to_string().contains("WARN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_reports_costs_a_few_rows() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.run("probe", json!({ "do": "progress", "reports": 100_000 })).await;
    assert_eq!(trace["status"], "SUCCESS", "{trace}");
    assert!(trace["last_seq"].as_u64().unwrap() < 100, "{trace}");
    let task = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
    assert_eq!(task["progress"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_from_outside_counts_once() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let started = host.post("/api/v1/traces", json!({ "definition": "probe", "params": { "do": "nap_in_host", "ms": 60000 } })).await;
    let (trace, task) = (&started["trace_id"], &started["root_task_id"]);
    let event =
        |id: &str, percent: u64| json!({ "event_id": id, "trace_id": trace, "task_id": task, "event_type": "PROGRESS", "payload": { "percent": percent } });
    let verdict = async |event: Value| host.send(Method::POST, "/api/v1/events", Some(event)).await.1["items"][0]["verdict"].clone();
    assert_eq!(verdict(event("e-1", 40)).await, "accepted");
    assert_eq!(verdict(event("e-1", 40)).await, "duplicate");
    assert_eq!(verdict(event("e-1", 41)).await, "rejected");
    assert_eq!(verdict(event("e-2", 150)).await, "rejected");
    assert_eq!(verdict(json!({ "event_id": "e-3", "task_id": task, "event_type": "COMPLETED" })).await, "rejected", "outcomes come from who runs the task");
    let shown = host.get(&format!("/api/v1/tasks/{}", task.as_str().unwrap())).await;
    assert_eq!((&shown["progress"], &shown["status"]), (&json!(40), &json!("RUNNING")));
    host.post(&format!("/api/v1/traces/{}/cancel", trace.as_str().unwrap()), json!({})).await;
    host.ended(trace.as_str().unwrap()).await;
    assert_eq!(verdict(event("e-4", 50)).await, "stale");
}
