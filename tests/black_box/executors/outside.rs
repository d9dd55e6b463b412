//! What is special about workers: tokens, leases, lines of waiting, and answers that come at once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::kinds::called_by;
use crate::host::Host;

/// A call about an attempt, as a worker without any SDK makes it.
async fn call(host: &Host, handed: &Value, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
    let token = handed["attempt"]["token"].as_str().unwrap();
    let url = handed["attempt"]["url"].as_str().unwrap().strip_prefix(&host.url).unwrap().to_owned();
    let mut request = host.request(method, &format!("{url}{path}")).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

async fn put(host: &Host, id: &str, code: &str, fields: Value) -> (StatusCode, Value) {
    let mut spec = json!({ "actor_type": "AGENT", "code_ref": code, "retry": { "initial_sec": 0.01, "factor": 1.0, "max_sec": 0.01, "jitter": false } });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    host.send(Method::PUT, &format!("/api/v1/definitions/{id}"), Some(spec)).await
}

async fn fetch(host: &Host, queue: &str, wait: &str) -> Option<Value> {
    let response =
        host.request(Method::POST, "/api/v1/workers/claim").json(&json!({ "queue": queue, "worker": "by hand", "wait": wait })).send().await.unwrap();
    match response.status() {
        StatusCode::OK => Some(response.json().await.unwrap()),
        status => {
            assert_eq!(status, StatusCode::NO_CONTENT);
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_an_sdk_does_everything_by_hand() {
    let host = Host::start(&[]).await;
    assert_eq!(put(&host, "agent", "worker://hands", json!({ "role": "typist", "folds": true })).await.0, StatusCode::CREATED);
    assert_eq!(put(&host, "leaf", "worker://hands", json!({ "actor_type": "EXECUTION" })).await.0, StatusCode::CREATED);
    let trace = host.trigger("agent", json!({ "n": 1 })).await;
    let root = fetch(&host, "hands", "30s").await.unwrap();
    let step = &root["step"];
    assert_eq!(
        (&step["trace_id"], &step["key"], &step["role"], &step["leg"], &step["params"]),
        (&json!(trace), &json!("root"), &json!("typist"), &json!("RUN"), &json!({ "n": 1 }))
    );
    assert_eq!(call(&host, &root, Method::GET, "", None).await, (StatusCode::OK, step.clone()), "the step can be read again");
    let reports = json!([
        { "event_type": "PROGRESS", "percent": 40, "message": "typing" },
        { "event_type": "LOG", "level": "WARN", "message": "out of ink", "fields": { "colour": "blue" } },
        { "event_type": "PARTIAL_OUTPUT", "value": { "so": "far" } },
    ]);
    assert_eq!(call(&host, &root, Method::POST, "/events", Some(reports)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(call(&host, &root, Method::POST, "/heartbeat", None).await.1["signal"], "GO_ON");
    let (status, refused) = call(&host, &root, Method::POST, "/split", Some(json!({ "children": [{ "key": "a", "definition": "nobody" }] }))).await;
    assert_eq!((status.as_u16(), &refused["code"], &refused["errors"][0]["pointer"]), (422, &json!("SPLIT_REFUSED"), &json!("/children/0")), "{refused}");
    let children =
        json!({ "children": [{ "key": "a", "definition": "leaf", "params": { "x": 1 } }, { "key": "b", "definition": "leaf", "depends_on": ["a"] }] });
    let (status, split) = call(&host, &root, Method::POST, "/split", Some(children.clone())).await;
    assert_eq!((status, split["task_ids"].as_array().unwrap().len()), (StatusCode::OK, 2), "{split}");
    assert_eq!(call(&host, &root, Method::POST, "/split", Some(children)).await.1, split, "the same again is the same");
    assert_eq!(host.get(&format!("/api/v1/traces/{trace}")).await["counts"]["pending"], 0, "nothing of it is there before the step's good end");
    let end = json!({ "output": { "plan": 2 } });
    assert_eq!(call(&host, &root, Method::POST, "/complete", Some(end.clone())).await, (StatusCode::OK, json!({ "settled": "KEPT" })));
    assert_eq!(call(&host, &root, Method::POST, "/complete", Some(end)).await, (StatusCode::OK, json!({ "settled": "KEPT" })), "the same end twice is one");
    let (status, over) = call(&host, &root, Method::POST, "/complete", Some(json!({ "output": "another" }))).await;
    assert_eq!((status.as_u16(), &over["code"]), (409, &json!("ATTEMPT_OVER")), "{over}");
    assert_eq!(call(&host, &root, Method::POST, "/split", Some(json!({ "children": [] }))).await.0, StatusCode::CONFLICT);
    for (key, output) in [("a", "one"), ("b", "two")] {
        let child = fetch(&host, "hands", "30s").await.unwrap();
        assert_eq!(child["step"]["key"], key);
        assert_eq!(child["step"]["upstream"].as_array().unwrap().len(), usize::from(key == "b"), "{child}");
        assert_eq!(call(&host, &child, Method::POST, "/complete", Some(json!({ "output": output }))).await.0, StatusCode::OK);
    }
    let fold = fetch(&host, "hands", "30s").await.unwrap();
    assert_eq!(
        (&fold["step"]["leg"], &fold["step"]["carried"], &fold["step"]["summary"]["succeeded"]),
        (&json!("AGGREGATE"), &json!({ "plan": 2 }), &json!(2))
    );
    let (_, first) = call(&host, &fold, Method::GET, "/results?limit=1", None).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) = call(&host, &fold, Method::GET, &format!("/results?cursor={cursor}"), None).await;
    assert_eq!((&first["items"][0]["output"], &second["items"][0]["output"], &second["next_cursor"]), (&json!("one"), &json!("two"), &Value::Null));
    assert_eq!(call(&host, &fold, Method::POST, "/complete", Some(json!({ "output": "one and two" }))).await.0, StatusCode::OK);
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("SUCCESS"), &json!("one and two")), "{ended}");
    let events = host.events(&trace).await;
    for seen in ["PROGRESS", "LOG", "PARTIAL_OUTPUT"] {
        assert!(events.iter().any(|event| event["event_type"] == seen), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_one_attempt_and_nothing_else() {
    let host = Host::start(&[]).await;
    put(&host, "code", "worker://hands", json!({})).await;
    let (one, other) = (host.trigger("code", json!({})).await, host.trigger("code", json!({})).await);
    let (mine, theirs) = (fetch(&host, "hands", "30s").await.unwrap(), fetch(&host, "hands", "30s").await.unwrap());
    let mixed = json!({ "attempt": { "url": theirs["attempt"]["url"], "token": mine["attempt"]["token"] } });
    for (handed, path) in [(&mixed, "/complete"), (&mixed, "/heartbeat"), (&mixed, "/split")] {
        let (status, body) = call(&host, handed, Method::POST, path, Some(json!({}))).await;
        assert_eq!((status.as_u16(), &body["code"]), (401, &json!("BAD_TOKEN")), "{body}");
    }
    let path = mine["attempt"]["url"].as_str().unwrap().strip_prefix(&host.url).unwrap();
    for authorization in [None, Some("Bearer att_0"), Some("Basic YTpi"), Some("att_"), Some("Bearer")] {
        let mut request = host.request(Method::POST, &format!("{path}/complete")).json(&json!({}));
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        assert_eq!(request.send().await.unwrap().status(), StatusCode::UNAUTHORIZED, "{authorization:?}");
    }
    // Given back, the step is another attempt with another token; the old one is over.
    assert_eq!(call(&host, &mine, Method::POST, "/release", None).await.0, StatusCode::OK);
    let again = fetch(&host, "hands", "30s").await.unwrap();
    assert_eq!((&again["step"]["task_id"], &again["step"]["attempt"]), (&mine["step"]["task_id"], &json!(1)), "no retry was used up");
    assert_ne!(again["attempt"]["token"], mine["attempt"]["token"]);
    assert_eq!(call(&host, &mine, Method::POST, "/complete", Some(json!({}))).await.0, StatusCode::CONFLICT);
    for handed in [&again, &theirs] {
        assert_eq!(call(&host, handed, Method::POST, "/complete", Some(json!({}))).await.0, StatusCode::OK);
    }
    for trace in [one, other] {
        assert_eq!(host.ended(&trace).await["status"], "SUCCESS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_falls_silent_loses_its_step_and_its_late_word_counts_for_nothing() {
    let host = Host::start(&["--worker-lease", "1s"]).await;
    put(&host, "code", "worker://hands", json!({ "max_retries": 1 })).await;
    let trace = host.trigger("code", json!({})).await;
    let silent = fetch(&host, "hands", "30s").await.unwrap();
    assert_eq!(silent["attempt"]["lease_ms"], 1_000);
    // Heard of, it keeps the step for longer than its lease.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        let (status, _) = call(&host, &silent, Method::GET, "/check-cancel?wait=300ms", None).await;
        assert_eq!(status, StatusCode::OK);
    }
    let second = fetch(&host, "hands", "30s").await.expect("the step goes to the next");
    assert_eq!((&second["step"]["task_id"], &second["step"]["attempt"]), (&silent["step"]["task_id"], &json!(2)));
    let (status, late) = call(&host, &silent, Method::POST, "/complete", Some(json!({ "output": "late" }))).await;
    assert!((status.as_u16(), late["code"].as_str()) == (409, Some("ATTEMPT_OVER")) || status.as_u16() == 401, "{status} {late}");
    assert_eq!(call(&host, &second, Method::POST, "/complete", Some(json!({ "output": "in time" }))).await.0, StatusCode::OK);
    let ended = host.ended(&trace).await;
    assert_eq!(ended["output"], "in time", "{ended}");
    let task = host.get(&format!("/api/v1/tasks/{}", silent["step"]["task_id"].as_str().unwrap())).await;
    assert_eq!(task["attempts"][0]["error"]["code"], "WORKER_LOST", "{task}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_a_queue_wait_for_a_worker_and_lose_nothing() {
    let host = Host::start(&["--slots", "1"]).await;
    put(&host, "code", "worker://hands", json!({ "timeout_sec": 1, "max_retries": 3 })).await;
    host.install("probe").await;
    let traces = [host.trigger("code", json!({})).await, host.trigger("code", json!({})).await];
    // They take nobody's slot, and say what they wait for.
    assert_eq!(host.run("probe", json!({ "do": "echo" })).await["status"], "SUCCESS");
    let task = &host.get(&format!("/api/v1/traces/{}/tasks", traces[0])).await["items"][0];
    assert_eq!(
        (&task["phase"], &task["waiting_on"][0]["kind"], &task["waiting_on"][0]["ref"]),
        (&json!("QUEUED"), &json!("slot"), &json!("worker/hands")),
        "{task}"
    );
    let executors = host.get("/api/v1/executors").await;
    let line = |lane: &str| executors["items"].as_array().unwrap().iter().find(|line| line["lane"] == lane).cloned().unwrap_or_default();
    assert_eq!((&line("worker/hands")["ready"], &line("worker/hands")["slots"], &line("wasm")["slots"]), (&json!(2), &json!(0), &json!(1)), "{executors}");
    assert_eq!(fetch(&host, "feet", "10ms").await, None, "another queue's worker gets nothing");
    let handed = fetch(&host, "hands", "30s").await.unwrap();
    assert_eq!(handed["step"]["attempt"], 1, "its time begins when it is handed over");
    assert_eq!(call(&host, &handed, Method::POST, "/complete", Some(json!({}))).await.0, StatusCode::OK);
    // Who goes away while a step is on its way loses it for nobody: it goes to the next, or where it was on the wire already, its attempt ends.
    let gone = tokio::time::timeout(Duration::from_millis(1), fetch(&host, "hands", "30s")).await;
    let handed = match gone {
        Ok(handed) => handed.unwrap(),
        Err(_) => fetch(&host, "hands", "30s").await.unwrap(),
    };
    assert_eq!(call(&host, &handed, Method::POST, "/complete", Some(json!({}))).await.0, StatusCode::OK);
    for trace in traces {
        assert_eq!(host.ended(&trace).await["status"], "SUCCESS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_called_may_answer_at_once() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let (url, _server) = called_by(move |handed| {
        let told = handed["step"]["params"]["answer"].clone();
        noted.lock().unwrap().push(handed);
        (StatusCode::from_u16(told["status"].as_u64().unwrap() as u16).unwrap(), told["body"].clone())
    })
    .await;
    let host = Host::start(&["--worker-url", &url]).await;
    let code = format!("{url}/steps");
    assert_eq!(put(&host, "called", &code, json!({ "max_retries": 1, "params_schema": { "type": "object" } })).await.0, StatusCode::CREATED);
    for (status, body, ended, code, attempts) in [
        (200, json!({ "output": [1, 2] }), "SUCCESS", None, 1),
        (200, json!({ "result": 1 }), "FAILED", Some("GUEST_BAD_RESULT"), 1),
        (422, json!({ "code": "NO_DATA", "message": "none", "retryable": false }), "FAILED", Some("NO_DATA"), 1),
        (404, json!("nothing here"), "FAILED", Some("WORKER_REFUSED"), 1),
        (503, json!("busy"), "FAILED", Some("WORKER_FAILED"), 2),
        (302, json!(null), "FAILED", Some("WORKER_REFUSED"), 1),
    ] {
        let trace = host.run("called", json!({ "answer": { "status": status, "body": body } })).await;
        assert_eq!((trace["status"].as_str(), trace["error"]["code"].as_str()), (Some(ended), code), "{status}: {trace}");
        let root = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
        assert_eq!(root["attempts"].as_array().unwrap().len(), attempts, "{status}: {root}");
    }
    let first = seen.lock().unwrap()[0].clone();
    assert!(first["attempt"]["token"].as_str().unwrap().starts_with("att_") && first["attempt"]["lease_ms"].is_null(), "{first}");
    // Away altogether.
    drop(_server);
    let trace = host.run("called", json!({ "answer": { "status": 200 } })).await;
    assert_eq!(trace["error"]["code"], "WORKER_UNREACHABLE", "{trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_in_the_old_form_are_understood() {
    let host = Host::start(&[]).await;
    put(&host, "code", "worker://hands", json!({ "max_retries": 0 })).await;
    let back = |handed: &Value, event: &str, data: Value| {
        let body = json!({ "event": event, "session_id": "s-1", "data": data });
        host.request(Method::POST, "/api/v1/callback").bearer_auth(handed["attempt"]["token"].as_str().unwrap()).json(&body).send()
    };
    let trace = host.trigger("code", json!({})).await;
    let handed = fetch(&host, "hands", "30s").await.unwrap();
    for event in ["task_started", "tool_call", "agent_response"] {
        assert_eq!(back(&handed, event, json!({ "tool": "search" })).await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(back(&handed, "task_lost", json!({})).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    let split = json!({ "parent_id": handed["step"]["task_id"], "children": [{ "client_ref": "x", "definition_id": "code", "params": {} }] });
    let path = format!("/api/v1/traces/{trace}/split");
    let answer = host.request(Method::POST, &path).bearer_auth(handed["attempt"]["token"].as_str().unwrap()).json(&split).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(back(&handed, "task_completed", json!({ "result": { "text": "done" } })).await.unwrap().status(), StatusCode::OK);
    let child = fetch(&host, "hands", "30s").await.unwrap();
    assert_eq!(back(&child, "task_failed", json!({ "error": "no luck", "retryable": false })).await.unwrap().status(), StatusCode::OK);
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["counts"]["failed"], &ended["status"]), (&json!(2), &json!("FAILED")), "its only child failed: {ended}");
    let logs = host.get(&format!("/api/v1/traces/{trace}/logs")).await;
    assert!(
        logs["items"].as_array().unwrap().iter().any(|line| line["message"].as_str().unwrap().starts_with("tool_call") && line["fields"]["tool"] == "search"),
        "{logs}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_told_of_its_session_and_may_name_it_anew() {
    let host = Host::start(&[]).await;
    put(&host, "code", "worker://hands", json!({ "capabilities": { "session": "READ" } })).await;
    let session = host.post("/api/v1/sessions", json!({ "user_id": "ada", "sdk_session_id": "chat-1" })).await["session_id"].clone();
    let trace = host.post("/api/v1/traces", json!({ "definition": "code", "session_id": session })).await["trace_id"].as_str().unwrap().to_owned();
    let handed = fetch(&host, "hands", "30s").await.unwrap();
    assert_eq!(handed["step"]["session"], json!({ "session_id": session, "user_id": "ada", "sdk_session_id": "chat-1" }));
    assert_eq!(call(&host, &handed, Method::POST, "/session", Some(json!({ "sdk_session_id": "chat-2" }))).await.0, StatusCode::NO_CONTENT);
    let path = format!("/api/v1/sessions/{}", session.as_str().unwrap());
    assert_eq!(host.get(&path).await["sdk_session_id"], "chat-1", "not before the step's good end");
    assert_eq!(call(&host, &handed, Method::POST, "/complete", Some(json!({}))).await.0, StatusCode::OK);
    assert_eq!(host.ended(&trace).await["status"], "SUCCESS");
    assert_eq!(host.get(&path).await["sdk_session_id"], "chat-2");
}
