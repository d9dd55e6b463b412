//! Event streams: how many, from where on, and what becomes of a reader that does not read.

use std::time::{Duration, Instant};

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::assert_problem;
use super::raw::Raw;
use crate::host::Host;

/// Longest that a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

async fn open(host: &Host, trace: &str, last: Option<&str>) -> Response {
    let mut request = host.request(Method::GET, &format!("/api/v1/traces/{trace}/events")).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().await.unwrap()
}

/// Opens one as soon as there is a place.
async fn opened_in_time(host: &Host, trace: &str) -> Response {
    let begin = Instant::now();
    loop {
        let stream = open(host, trace, None).await;
        if stream.status() == StatusCode::OK {
            return stream;
        }
        assert!(begin.elapsed() < PATIENCE, "no place came free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_streams_above_the_cap_are_told_to_come_later() {
    let host = Host::start(&["--streams-max", "3"]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "nap_in_host", "ms": 60000 })).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = open(&host, &trace, None).await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    let refused = open(&host, &trace, None).await;
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_problem(&(refused.status(), refused.json::<Value>().await.unwrap()), 429, "TOO_MANY_STREAMS");
    assert!(!host.events(&trace).await.is_empty(), "the list is open to all");
    streams.pop();
    streams.push(opened_in_time(&host, &trace).await);
    // A trace that ends frees the places of its readers.
    host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
    for stream in streams {
        assert!(stream.text().await.unwrap().contains("event: end\n"));
    }
    assert!(opened_in_time(&host, &trace).await.text().await.unwrap().contains("event: end\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_a_last_event_id_that_the_stream_never_gave_is_refused() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let running = host.trigger("probe", json!({ "do": "nap_in_host", "ms": 60000 })).await;
    let ended = host.trigger("probe", json!({ "do": "echo" })).await;
    let last = host.ended(&ended).await["last_seq"].as_u64().unwrap();
    for trace in [&running, &ended] {
        for forged in ["x", "-1", "1.5", "18446744073709551616", "99999", "1; DROP", "0x1", "1,2"] {
            let answer = open(&host, trace, Some(forged)).await;
            assert_problem(&(answer.status(), answer.json::<Value>().await.unwrap()), 400, "BAD_HEADER");
        }
    }
    assert_eq!(open(&host, &ended, Some(&(last + 1).to_string())).await.status(), StatusCode::BAD_REQUEST);
    // The last one, after the end: there is nothing to come back for.
    assert_eq!(open(&host, &ended, Some(&last.to_string())).await.status(), StatusCode::NO_CONTENT);
    let rest = open(&host, &ended, Some(&(last - 1).to_string())).await.text().await.unwrap();
    assert!(rest.contains(&format!("id: {last}\n")) && !rest.contains(&format!("id: {}\n", last - 1)) && rest.contains("event: end\n"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r45_a_reader_that_does_not_read_is_dropped_and_nothing_piles_up_for_it() {
    let host = Host::start(&["--streams-max", "1", "--idle-timeout", "1s"]).await;
    host.install("probe").await;
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "resource_profile": { "log_bytes": 64 << 20 } });
    assert!(host.send(Method::PUT, "/api/v1/definitions/loud", Some(spec)).await.0.is_success());
    // 24 MiB of events: far more than sockets buffer.
    let trace = host.run("loud", json!({ "do": "log", "lines": 400, "bytes": 61440 })).await["trace_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/traces/{trace}/events");
    let reader = Raw::saying(&host, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")).await;
    let begin = Instant::now();
    while open(&host, &trace, None).await.status() == StatusCode::OK {
        assert!(begin.elapsed() < PATIENCE, "the reader has the place");
    }
    // Its place comes free although it never closes.
    let rest = opened_in_time(&host, &trace).await.text().await.unwrap();
    assert_eq!((rest.matches("event: log\n").count(), rest.matches("event: end\n").count()), (400, 1));
    drop(reader);
}
