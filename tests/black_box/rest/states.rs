//! Orders and reports that come twice, too late, or that do not fit; and whether the host says that it can work.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::assert_problem;
use crate::host::Host;

const TRACES: &str = "/api/v1/traces";

async fn with_probe() -> Host {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    host
}

/// A task that runs until it is cancelled: its trace and its id.
async fn napping(host: &Host) -> (String, String) {
    let started = host.post(TRACES, json!({ "definition": "probe", "params": { "do": "nap_in_host", "ms": 60000 } })).await;
    let (trace, task) = (started["trace_id"].as_str().unwrap().to_owned(), started["root_task_id"].as_str().unwrap().to_owned());
    host.until("it to run", &format!("/api/v1/tasks/{task}"), |task| (task["status"] == "RUNNING").then_some(())).await;
    (trace, task)
}

/// The verdicts on posted events.
async fn verdicts(host: &Host, events: Value) -> Vec<String> {
    let answer = host.post("/api/v1/events", events).await;
    answer["items"].as_array().unwrap().iter().map(|verdict| verdict["verdict"].as_str().unwrap().to_owned()).collect()
}

fn progress(id: &str, task: &str, percent: i64) -> Value {
    json!({ "event_id": id, "task_id": task, "event_type": "PROGRESS", "payload": { "percent": percent } })
}

async fn keyed(host: &Host, path: &str, key: &str, body: Value) -> (StatusCode, bool, Value) {
    let response = host.request(Method::POST, path).header("idempotency-key", key).json(&body).send().await.unwrap();
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    (response.status(), replayed, response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_fifty_of_a_kind_begin_one_trace_and_another_body_is_refused() {
    let host = with_probe().await;
    let body = |value: u64| json!({ "definition": "probe", "params": { "do": "echo", "value": value } });
    let all = futures::future::join_all((0..50).map(|_| keyed(&host, TRACES, "one", body(1)))).await;
    let ids: std::collections::HashSet<String> = all.iter().map(|(_, _, body)| body["trace_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), all.iter().filter(|(_, replayed, _)| !replayed).count()), (1, 1));
    for (path, body) in [(TRACES, body(2)), ("/api/v1/definitions/probe/trigger", json!({ "params": { "do": "echo", "value": 1 } }))] {
        let (status, _, answer) = keyed(&host, path, "one", body).await;
        assert_problem(&(status, answer), 422, "IDEMPOTENCY_KEY_REUSED");
    }
    for key in ["", "\u{1}", &"k".repeat(256)] {
        let response = host.request(Method::POST, TRACES).header("idempotency-key", key.as_bytes()).json(&body(3)).send().await;
        // The client itself may refuse to send it.
        let Ok(response) = response else { continue };
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{key:?}");
    }
    assert_eq!(host.all(TRACES).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_a_key_is_answered_with_its_trace_whatever_became_of_the_definition() {
    let host = with_probe().await;
    let spec = |more: Value| {
        let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let put = async |more: Value| assert!(host.send(Method::PUT, "/api/v1/definitions/mine", Some(spec(more))).await.0.is_success());
    put(json!({})).await;
    let body = json!({ "definition": "mine", "params": { "do": "echo" } });
    let (status, replayed, first) = keyed(&host, TRACES, "k", body.clone()).await;
    assert_eq!((status, replayed), (StatusCode::ACCEPTED, false));
    for change in [json!({ "is_active": false }), json!({ "params_schema": { "type": "object", "required": ["more"] } })] {
        put(change.clone()).await;
        let (status, replayed, again) = keyed(&host, TRACES, "k", body.clone()).await;
        assert_eq!((status, replayed, &again["trace_id"]), (StatusCode::ACCEPTED, true, &first["trace_id"]), "{change}: {again}");
        // Another body under that key is another request, and a new key begins nothing.
        let other = keyed(&host, TRACES, "k", json!({ "definition": "mine", "params": {} })).await;
        assert_problem(&(other.0, other.2), 422, "IDEMPOTENCY_KEY_REUSED");
        assert!(keyed(&host, TRACES, "new", body.clone()).await.0.is_client_error());
    }
    assert_eq!(host.all(TRACES).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r31_an_event_counts_once() {
    let host = with_probe().await;
    let (trace, task) = napping(&host).await;
    let event = progress("e-1", &task, 40);
    assert_eq!(verdicts(&host, json!([event, event])).await, ["accepted", "duplicate"]);
    assert_eq!(verdicts(&host, event.clone()).await, ["duplicate"]);
    let before = host.events(&trace).await.len();
    assert_eq!(verdicts(&host, progress("e-1", &task, 41)).await, ["rejected"]);
    let raced = futures::future::join_all((0..20).map(|_| verdicts(&host, progress("e-2", &task, 42)))).await.concat();
    assert_eq!(raced.iter().filter(|verdict| *verdict == "accepted").count(), 1, "{raced:?}");
    assert_eq!(host.events(&trace).await.len(), before + 1);
    assert_problem(
        &host.send(Method::POST, "/api/v1/events", Some(json!({ "event_id": "", "task_id": task, "event_type": "PROGRESS" }))).await,
        422,
        "BAD_FIELDS",
    );
    let flood: Vec<Value> = (0..1001).map(|n| progress(&format!("f-{n}"), &task, 1)).collect();
    assert_problem(&host.send(Method::POST, "/api/v1/events", Some(json!(flood))).await, 422, "BAD_FIELDS");
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_r34_events_that_do_not_fit_change_nothing() {
    let host = with_probe().await;
    let (trace, task) = napping(&host).await;
    let nobody = "01JD3R5N7Q8V9W0X1Y2Z3A4B5C";
    let of = |event_type: &str, more: Value| {
        let mut event = json!({ "event_id": format!("{event_type}-{more}").replace(' ', ""), "task_id": task, "event_type": event_type });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    // Outcomes are those of the lease's holder, and this task is the host's.
    for event in [
        of("STARTED", json!({})),
        of("COMPLETED", json!({})),
        of("FAILED", json!({})),
        of("CANCELLED", json!({})),
        of("QUEUED", json!({})),
        of("SPLIT", json!({})),
        of("PROGRESS", json!({})),
        of("PROGRESS", json!({ "payload": { "percent": 150 } })),
        of("PROGRESS", json!({ "payload": { "percent": -1 } })),
        of("PROGRESS", json!({ "payload": { "percent": "10" } })),
        of("PROGRESS", json!({ "payload": { "percent": 10 }, "trace_id": nobody })),
        of("PROGRESS", json!({ "payload": { "percent": 10 }, "task_id": nobody })),
    ] {
        let told = event.to_string();
        assert_eq!(verdicts(&host, event).await, ["rejected"], "{told}");
    }
    for event in [
        of("PROGRESS", json!({ "fence": 1 })),
        of("NOTHING", json!({})),
        of("PROGRESS", json!({ "task_id": "x" })),
        of("PROGRESS", json!({ "timestamp_ms": 1e300 })),
    ] {
        assert_eq!(host.send(Method::POST, "/api/v1/events", Some(event)).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let shown = host.get(&format!("/api/v1/tasks/{task}")).await;
    assert_eq!((&shown["progress"], &shown["status"]), (&json!(0), &json!("RUNNING")));
    // The host's clock rules, not the sender's.
    let year_3000 = of("PROGRESS", json!({ "payload": { "percent": 10 }, "timestamp_ms": 32_503_680_000_000_i64 }));
    assert_eq!(verdicts(&host, year_3000).await, ["accepted"]);
    let last = host.events(&trace).await.pop().unwrap();
    assert_eq!((&last["event_type"], last["timestamp_ms"].as_i64().unwrap() < 32_503_680_000_000), (&json!("PROGRESS"), true), "{last}");
    // After the end nothing is taken.
    host.post(&format!("{TRACES}/{trace}/cancel"), json!({})).await;
    host.ended(&trace).await;
    let before = host.events(&trace).await.len();
    assert_eq!(verdicts(&host, progress("late", &task, 20)).await, ["stale"]);
    assert_eq!(verdicts(&host, of("COMPLETED", json!({ "event_id": "late-2" }))).await, ["rejected"]);
    assert_eq!(host.events(&trace).await.len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn r38_times_are_whole_instants_and_one_that_is_over_is_now() {
    let host = with_probe().await;
    let start = |run_at: Value| json!({ "definition": "probe", "params": { "do": "echo" }, "run_at": run_at });
    for bad in [
        json!("2026-01-31T08:00:00 Mars/Phobos"),
        json!("2026-01-31T08:00:00+25:00"),
        json!("2026-01-31T08:00:60Z"),
        json!("2026-01-31T24:00:00Z"),
        json!("2026-02-30T08:00:00Z"),
        json!("0000-01-01T00:00:00Z"),
        json!("10000-01-01T00:00:00Z"),
        json!("2026-01-31T08:00:00"),
        json!("2026-01-31"),
        json!("tomorrow"),
        json!(1_800_000_000),
    ] {
        let answer = host.send(Method::POST, TRACES, Some(start(bad))).await;
        assert_problem(&answer, 422, "BAD_FIELDS");
        assert_eq!(answer.1["errors"][0]["pointer"], "/run_at");
    }
    let started = host.post(&format!("{TRACES}?wait=30s"), start(json!("1999-12-31T23:59:59+02:00"))).await;
    assert_eq!(started["status"], "SUCCESS", "{started}");
    let far = host.post(TRACES, start(json!("2076-01-31T08:00:00Z"))).await;
    let task = host.get(&format!("/api/v1/tasks/{}", far["root_task_id"].as_str().unwrap())).await;
    assert_eq!((&task["phase"], &task["waiting_on"][0]["kind"]), (&json!("SCHEDULED"), &json!("time")), "{task}");
    for query in ["since=yesterday", "until=2026-01-31T08:00:60Z"] {
        assert_problem(&host.send(Method::GET, &format!("{TRACES}?{query}"), None).await, 422, "BAD_QUERY");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r39_orders_that_do_not_fit_the_state_change_nothing() {
    let host = with_probe().await;
    let (trace, task) = napping(&host).await;
    let cancel = format!("{TRACES}/{trace}/cancel");
    assert_problem(&host.send(Method::POST, &format!("{TRACES}/{trace}/retry"), None).await, 409, "NOT_ENDED");
    // What holds already is not ordered again, and nobody is told off for it.
    let running = host.get(&format!("{TRACES}/{trace}")).await;
    for path in [format!("{TRACES}/{trace}/resume"), format!("/api/v1/tasks/{task}/resume")] {
        let (status, body) = host.send(Method::POST, &path, None).await;
        assert_eq!((status, &body["outcome"], &body["changed"]), (StatusCode::OK, &json!("NOTHING_TO_DO"), &json!(0)), "{body}");
    }
    assert_eq!(host.get(&format!("{TRACES}/{trace}")).await["last_seq"], running["last_seq"]);
    assert_eq!(host.all(&format!("{TRACES}/{trace}/control-events")).await, [] as [Value; 0], "an order without an effect is none");
    let other = json!({ "from": task });
    let foreign = host.run("probe", json!({ "do": "echo" })).await;
    let rerun = format!("{TRACES}/{}/rerun", foreign["trace_id"].as_str().unwrap());
    assert_problem(&host.send(Method::POST, &rerun, Some(other)).await, 404, "NO_SUCH_TASK");
    assert_problem(&host.send(Method::POST, &cancel, Some(json!({ "reason": "x".repeat(1025) }))).await, 422, "BAD_FIELDS");
    assert_problem(&host.send(Method::POST, &cancel, Some(json!({ "reason": "\u{7}" }))).await, 422, "BAD_FIELDS");
    assert_problem(&host.send(Method::POST, &cancel, Some(json!({ "force": true }))).await, 422, "BAD_FIELDS");
    assert_eq!(host.send(Method::POST, &cancel, None).await.0, StatusCode::ACCEPTED);
    let again = host.send(Method::POST, &cancel, None).await;
    assert_eq!(again.0, StatusCode::OK, "{}", again.1);
    let ended = host.ended(&trace).await;
    assert_eq!(ended["status"], "CANCELLED");
    for path in [&cancel, &format!("/api/v1/tasks/{task}/cancel")] {
        let late = host.send(Method::POST, path, None).await;
        assert_eq!((late.0, &late.1["outcome"]), (StatusCode::OK, &json!("ALREADY_ENDED")));
    }
    assert_eq!(host.get(&format!("{TRACES}/{trace}")).await, ended, "terminal is final");
    let trace = host.run("probe", json!({ "do": "echo" })).await;
    let retry = format!("{TRACES}/{}/retry", trace["trace_id"].as_str().unwrap());
    assert_problem(&host.send(Method::POST, &retry, None).await, 409, "NOTHING_TO_RETRY");
}

#[tokio::test(flavor = "multi_thread")]
async fn r43_an_upload_is_checked_against_its_digest_and_kept_once() {
    let host = Host::start(&[]).await;
    let probe = command_tower_examples::find("probe").unwrap().modules[0].wasm;
    let upload = async |headers: &[(&str, &str)], body: Vec<u8>| {
        let mut request = host.request(Method::POST, "/api/v1/modules?name=mine").body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json::<Value>().await.unwrap())
    };
    let wasm = ("content-type", "application/wasm");
    let zeros = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    assert_problem(&upload(&[wasm, ("digest", zeros)], probe.to_vec()).await, 422, "DIGEST_MISMATCH");
    assert_problem(&upload(&[wasm, ("digest", "md5:x")], probe.to_vec()).await, 400, "BAD_HEADER");
    let part = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n".repeat(10_000);
    assert_problem(&upload(&[("content-type", "multipart/form-data; boundary=x")], part.into_bytes()).await, 415, "WRONG_MEDIA_TYPE");
    assert_eq!(host.get("/api/v1/modules").await["items"], json!([]), "nothing was kept");
    let (status, first) = upload(&[wasm], probe.to_vec()).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, again) = upload(&[wasm, ("digest", first["digest"].as_str().unwrap())], probe.to_vec()).await;
    assert_eq!((status, &again["digest"]), (StatusCode::OK, &first["digest"]));
    // Modules are not for the path of outputs.
    assert_problem(&host.send(Method::GET, &format!("/api/v1/artifacts/{}", first["digest"].as_str().unwrap()), None).await, 404, "NO_SUCH_ARTIFACT");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_database_cannot_be_written_is_not_ready_until_it_can() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    // What a full disk is to a process: files do not grow. The signal that tells of it would end the process, as no full disk does.
    // The log is a file as well, and nothing can be written to it either.
    let log = tempfile::NamedTempFile::new().unwrap();
    let host = Host::start_under(&format!("trap '' XFSZ; exec 2>'{}'", log.path().display()), &[]).await;
    host.install("probe").await;
    let grow = |limit: Option<u64>| {
        let pid = Pid::from_raw(i32::try_from(host.pid()).unwrap());
        prlimit(pid, Resource::Fsize, Rlimit { current: limit, maximum: None }).unwrap();
    };
    let readiness = async |wanted: StatusCode| {
        let begin = std::time::Instant::now();
        loop {
            let (status, body) = host.send(Method::GET, "/readyz", None).await;
            if status == wanted {
                return body;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{status}: {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert_eq!(readiness(StatusCode::OK).await["database"], true);
    grow(Some(0));
    let red = readiness(StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!((&red["status"], &red["database"]), (&json!("not_ready"), &json!(false)));
    // It is alive, can be read, and takes nothing that it cannot keep.
    for path in ["/livez", "/health", "/api/v1/health", TRACES] {
        assert_eq!(host.send(Method::GET, path, None).await.0, StatusCode::OK, "{path}");
    }
    let refused = host.send(Method::POST, TRACES, Some(json!({ "definition": "probe", "params": { "do": "echo" } }))).await;
    assert_problem(&refused, 503, "UNAVAILABLE");
    grow(None);
    assert_eq!(readiness(StatusCode::OK).await["status"], "ready");
    assert_eq!(host.run("probe", json!({ "do": "echo" })).await["status"], "SUCCESS");
}
