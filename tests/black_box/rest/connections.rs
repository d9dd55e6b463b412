//! What connections may take, of the host and of time; and requests that break HTTP itself.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::Method;
use serde_json::{Value, json};

use super::raw::{Raw, get, post};
use crate::host::Host;

const TRACES: &str = "/api/v1/traces";
/// More than any timeout that a test sets, and less than those that it leaves out of the way.
const SOON: Duration = Duration::from_secs(20);
/// Timeouts that are out of the way.
const LONG: [&str; 6] = ["--header-timeout", "10m", "--body-timeout", "10m", "--idle-timeout", "10m"];

/// A host whose one timeout is short, and the others out of the way.
async fn short(flag: &'static str, value: &'static str) -> Host {
    let mut flags = LONG;
    let at = flags.iter().position(|other| *other == flag).unwrap();
    flags[at + 1] = value;
    Host::start(&flags).await
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_body_that_is_too_large_is_refused_with_a_length_and_in_chunks() {
    let host = Host::start(&LONG).await;
    let body = vec![b' '; 3 << 20];
    let mut whole = Raw::saying(&host, post(TRACES, &format!("Content-Length: {}\r\n", body.len()))).await;
    whole.try_send(&body).await;
    let (status, told) = whole.answer().await;
    assert!(status == 413 && told.contains("TOO_LARGE"), "{told}");
    let mut chunks = Raw::saying(&host, post(TRACES, "Transfer-Encoding: chunked\r\n")).await;
    for piece in body.chunks(64 * 1024) {
        if !(chunks.try_send(format!("{:x}\r\n", piece.len())).await && chunks.try_send(piece).await && chunks.try_send("\r\n").await) {
            break;
        }
    }
    let (status, told) = chunks.answer().await;
    assert!(status == 413 && told.contains("TOO_LARGE"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_a_length_that_is_too_large_is_refused_before_the_body_comes() {
    let host = Host::start(&LONG).await;
    for path in [TRACES, "/api/v1/definitions", "/api/v1/events"] {
        let mut raw = Raw::saying(&host, post(path, "Content-Length: 3145728\r\n")).await;
        let ended = raw.until_closed().await;
        assert_eq!(ended.statuses(), [413], "{path}: {}", ended.text);
        assert!(ended.took < SOON, "{:?}", ended.took);
    }
    // Who asks first is not told to go on.
    let mut asking = Raw::saying(&host, post(TRACES, "Content-Length: 3145728\r\nExpect: 100-continue\r\n")).await;
    assert_eq!(asking.until_closed().await.statuses(), [413]);
    let mut upload =
        Raw::saying(&host, "POST /api/v1/modules?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/wasm\r\nContent-Length: 99999999999\r\n\r\n")
            .await;
    assert_eq!(upload.until_closed().await.statuses(), [413]);
}

/// A client that is not told takes the connection for a free one, and loses its next request.
#[tokio::test(flavor = "multi_thread")]
async fn r02_who_is_answered_before_the_body_was_read_is_told_that_the_connection_closes() {
    let host = Host::start(&LONG).await;
    let wrong = "POST /api/v1/modules?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 600000\r\n\r\n";
    let mut unread = Raw::saying(&host, wrong).await;
    let ended = unread.until_closed().await;
    assert_eq!(ended.statuses(), [415]);
    assert!(ended.text.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{}", ended.text);
    // One that was read to its end carries the next request.
    let mut read = Raw::saying(&host, format!("{}{{}}", post(TRACES, "Content-Length: 2\r\n"))).await;
    assert_eq!(read.answer().await.0, 422);
    read.send(get("/api/v1/health")).await;
    assert_eq!(read.answer().await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_head_that_comes_slowly_is_not_waited_for() {
    let host = short("--header-timeout", "300ms").await;
    for head in ["G", "GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut raw = Raw::saying(&host, head).await;
        let ended = raw.until_closed().await;
        assert!(ended.text.is_empty() && ended.took < SOON, "{head}: {:?} {}", ended.took, ended.text);
    }
    // Nor one that drips, so that there is never silence.
    let (mut raw, begin) = (Raw::saying(&host, "GET / HTTP/1.1\r\nX-Slow: ").await, Instant::now());
    while !raw.closes_within(Duration::from_millis(50)).await {
        assert!(begin.elapsed() < SOON);
        raw.try_send("a").await;
    }
    // The second request of a connection as well.
    let mut raw = Raw::saying(&host, get("/api/v1/health")).await;
    assert_eq!(raw.answer().await.0, 200);
    raw.send("GET ").await;
    assert!(raw.until_closed().await.took < SOON);
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_body_that_stands_still_or_drips_is_answered_408() {
    let host = short("--body-timeout", "400ms").await;
    for (path, media_type) in [(TRACES, "application/json"), ("/api/v1/modules?name=x", "application/wasm")] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\nContent-Length: 1000\r\n\r\n{{");
        let mut still = Raw::saying(&host, &head).await;
        let ended = still.until_closed().await;
        assert_eq!((ended.statuses(), &ended.body()["code"]), (vec![408], &json!("BODY_TOO_SLOW")));
        assert!(ended.took < SOON, "{:?}", ended.took);
        // A byte every 50 ms: never still for 400 ms, and never done.
        let ended = Raw::saying(&host, &head).await.dripping_until_closed(Duration::from_millis(50), SOON).await;
        assert_eq!((ended.statuses(), &ended.body()["code"]), (vec![408], &json!("BODY_TOO_SLOW")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_a_room_and_who_finds_none_is_told() {
    let host = Host::start(&[["--bodies-mib-max", "8", "--module-mib-max", "8"].as_slice(), &LONG].concat()).await;
    let head = "POST /api/v1/modules?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/wasm\r\nContent-Length: 7340032\r\n\r\n";
    let most = vec![0; (7 << 20) - 1];
    let upload = async || {
        let mut raw = Raw::saying(&host, head).await;
        raw.try_send(&most).await;
        raw
    };
    // Each is a byte short of being answered for what it is. Two never fit, so that of three two are refused, whichever.
    let mut uploads = [upload().await, upload().await, upload().await];
    let mut answers: FuturesUnordered<_> = uploads.iter_mut().map(Raw::answer).collect();
    for _ in 0..2 {
        let (status, body) = answers.next().await.unwrap();
        assert!(status == 503 && body.contains("UNAVAILABLE"), "{status}: {body}");
    }
    assert_eq!(host.send(Method::POST, TRACES, Some(json!({ "definition": "x" }))).await.0, 404, "small ones find their room");
    drop(answers);
    drop(uploads);
    let begin = Instant::now();
    loop {
        let mut raw = upload().await;
        raw.try_send("x").await;
        match raw.answer().await.0 {
            422 => break,
            status => assert!(status == 503 && begin.elapsed() < SOON, "{status}: the room comes free"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_silent_connection_is_closed_and_one_that_is_answered_is_not() {
    let host = short("--idle-timeout", "500ms").await;
    host.install("probe").await;
    let mut silent = Raw::connect(&host).await;
    assert!(silent.until_closed().await.took < SOON);
    // Waiting for an answer is no silence, however long it takes; afterwards it is.
    let trace = host.trigger("probe", json!({ "do": "nap_in_host", "ms": 60000 })).await;
    let mut waiting = Raw::saying(&host, get(&format!("{TRACES}/{trace}?wait=2s"))).await;
    assert_eq!(waiting.answer().await.0, 200);
    assert!(waiting.until_closed().await.took < SOON);
    // Nor is an event stream that has nothing to tell.
    let mut stream = Raw::saying(&host, format!("GET {TRACES}/{trace}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")).await;
    assert!(!stream.closes_within(Duration::from_secs(2)).await);
    let cancel = post(&format!("{TRACES}/{trace}/cancel"), "Content-Length: 2\r\n") + "{}";
    assert_eq!(Raw::saying(&host, cancel).await.answer().await.0, 202);
    assert!(stream.closes_within(SOON).await, "it ends with its trace");
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let host = short("--idle-timeout", "500ms").await;
    host.install("probe").await;
    // More than sockets buffer: the document, a few hundred times.
    let mut greedy = Raw::connect(&host).await;
    let asked = async { while greedy.try_send(get("/api/v1/openapi.json").repeat(50)).await {} };
    tokio::time::timeout(SOON, asked).await.expect("the host closes, or all is sent for ever");
    assert_eq!(host.get("/api/v1/health").await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_clients_above_the_cap_are_told_and_let_in_when_others_leave() {
    let host = Host::start(&[["--connections-max", "8"].as_slice(), &LONG].concat()).await;
    let mut inside = Vec::new();
    for _ in 0..8 {
        let mut raw = Raw::saying(&host, get("/api/v1/health")).await;
        assert_eq!(raw.answer().await.0, 200);
        inside.push(raw);
    }
    let mut outside = Raw::saying(&host, get("/api/v1/health")).await;
    let ended = outside.until_closed().await;
    assert_eq!((ended.statuses(), &ended.body()["code"]), (vec![503], &json!("UNAVAILABLE")));
    assert!(ended.text.contains("Retry-After: 1\r\n"), "{}", ended.text);
    // Those inside are served all the while.
    inside[7].send(get("/api/v1/health")).await;
    assert_eq!(inside[7].answer().await.0, 200);
    drop(inside);
    let begin = Instant::now();
    while Raw::saying(&host, get("/api/v1/health")).await.answer().await.0 != 200 {
        assert!(begin.elapsed() < SOON);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_the_cap_stays_below_the_limit_of_open_files() {
    // 256 files, of which 128 and one for each slot are kept: 112 connections of the thousand that were asked for.
    let flags = [["--slots", "16"].as_slice(), &LONG].concat();
    let host = Host::start_under("ulimit -n 256", &flags).await;
    let mut inside = Vec::new();
    let turned_away = loop {
        let mut raw = Raw::saying(&host, get("/api/v1/health")).await;
        match raw.answer().await.0 {
            200 => inside.push(raw),
            status => break status,
        }
    };
    assert_eq!((inside.len(), turned_away), (112, 503));
    inside[0].send(get("/readyz")).await;
    assert_eq!(inside[0].answer().await.0, 200, "the host has what it needs");
    // A limit that the process may raise by itself is raised.
    let host = Host::start_under("ulimit -S -n 64", &flags).await;
    let mut inside = Vec::new();
    for _ in 0..150 {
        let mut raw = Raw::saying(&host, get("/api/v1/health")).await;
        assert_eq!(raw.answer().await.0, 200);
        inside.push(raw);
    }
    // One that leaves nothing is said at the start.
    let output = crate::host::under("ulimit -n 100").args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "/nonexistent/data"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("ulimit -n"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r23_a_request_that_two_servers_could_read_differently_ends_its_connection() {
    let host = Host::start(&LONG).await;
    let inner = get("/api/v1/health");
    let post = |head: &str, body: &str| format!("POST {TRACES} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{head}\r\n{body}{inner}");
    for (what, request) in [
        ("length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("chunks and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}")),
        ("a list of lengths", post("Content-Length: 2, 3\r\n", "{}")),
        ("a signed length", post("Content-Length: +2\r\n", "{}")),
        ("a negative length", post("Content-Length: -2\r\n", "{}")),
        ("an unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("a coding after chunked", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("a space before the colon", post("Content-Length : 2\r\n", "{}")),
        ("a folded line", post("Content-Length: 2\r\nX-A: b\r\n c\r\n", "{}")),
        ("NUL in a value", post("Content-Length: 2\r\nX-A: b\0c\r\n", "{}")),
        ("NUL in a name", post("Content-Length: 2\r\nX\0A: b\r\n", "{}")),
        ("a bare carriage return", post("Content-Length: 2\r\nX-A: b\rX-B: c\r\n", "{}")),
        ("a chunk's length that is none", post("Transfer-Encoding: chunked\r\n", "zz\r\n\r\n")),
        ("a chunk's length that overflows", post("Transfer-Encoding: chunked\r\n", "ffffffffffffffff1\r\n\r\n")),
    ] {
        let ended = Raw::saying(&host, &request).await.until_closed().await;
        assert_eq!(ended.statuses(), [400], "{what}: {}", ended.text);
    }
    assert_eq!(host.get("/api/v1/traces").await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn r25_heads_that_are_too_large_and_methods_that_are_not_there() {
    let host = Host::start(&LONG).await;
    let with = |head: &str| format!("GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n{head}\r\n");
    for (what, request, statuses) in [
        ("200 headers", with(&"X-A: b\r\n".repeat(200)), [431].as_slice()),
        ("a header of 1 MB", with(&format!("X-A: {}\r\n", "b".repeat(1 << 20))), &[431]),
        ("a path of 100 kB", get(&format!("/{}", "a".repeat(100_000))), &[414, 431]),
        ("HTTP/0.9", "GET /api/v1/health\r\n\r\n".to_owned(), &[400]),
        ("no request at all", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\r\n\r\n".to_owned(), &[400]),
    ] {
        let mut raw = Raw::connect(&host).await;
        raw.try_send(&request).await;
        let ended = raw.until_closed().await;
        assert!(ended.statuses().len() == 1 && statuses.contains(&ended.statuses()[0]), "{what}: {}", ended.text);
    }
    for method in ["TRACE", "PATCH", "DELETE", "BREW"] {
        let answer = Raw::saying(&host, format!("{method} {TRACES} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await.answer().await;
        let body: Value = serde_json::from_str(&answer.1).unwrap();
        assert_eq!((answer.0, &body["code"]), (405, &json!("METHOD_NOT_ALLOWED")), "{method}");
    }
    let refused = host.request(Method::DELETE, TRACES).send().await.unwrap();
    assert_eq!(refused.headers()["allow"], "GET,HEAD,POST");
}
