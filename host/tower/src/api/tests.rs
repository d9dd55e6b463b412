//! The API on a real engine in memory, without a socket.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::*;
use crate::app::Host;
use crate::config::{HostConfig, LEASE_DEFAULT};

struct Server {
    router: Router,
    host: Host,
}

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Value,
    text: String,
}

impl Server {
    async fn start() -> Self {
        let config = HostConfig {
            slots: 4,
            cancel_grace: std::time::Duration::ZERO,
            lease: LEASE_DEFAULT,
            mounts: Vec::new(),
            compile: Default::default(),
            night: Default::default(),
            retention: None,
            user_max_concurrent: None,
            schedules: true,
            schedule_interval_min: tower_domain::schedule::check::SHORTEST,
        };
        let host = Host::in_memory(&config).await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = ApiSettings {
            module_bytes_max: 4 << 20,
            body_timeout: std::time::Duration::from_secs(30),
            loopback_only: true,
            task_definition: None,
            stage_from: Vec::new(),
        };
        let (bodies, streams) = (Arc::new(Semaphore::new(65_536)), Arc::new(Semaphore::new(8)));
        let api = Api {
            engine: host.engine.clone(),
            gate: host.executor.clone(),
            outside: Outside::new(&Default::default(), &[], std::path::Path::new("."), "http://127.0.0.1:8001".to_owned()).unwrap(),
            peers: Peers::new().unwrap(),
            sessions: None,
            stop: CancellationToken::new(),
            probe: Probe::default(),
            bodies,
            streams,
            settings,
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
        };
        Self { router: router(api), host }
    }

    async fn stop(self) {
        self.host.stop(std::time::Duration::ZERO).await;
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "127.0.0.1:8001");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], Body::empty()).await
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> Answer {
        self.ask(method, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Uploads the probe and defines `probe` as an agent of it.
    async fn with_probe() -> Self {
        let server = Self::start().await;
        let probe = command_tower_examples::find("probe").unwrap().modules[0];
        let uploaded = server.ask(Method::POST, "/api/v1/modules?name=probe", &[("content-type", "application/wasm")], probe.wasm).await;
        assert_eq!(uploaded.status, StatusCode::CREATED, "{}", uploaded.text);
        let put = server.json(Method::PUT, "/api/v1/definitions/probe", json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "max_retries": 0 })).await;
        assert_eq!(put.status, StatusCode::CREATED, "{}", put.text);
        server
    }
}

impl Answer {
    #[track_caller]
    fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert!(self.body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{}", self.text);
        assert!(self.body["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/")), "{}", self.text);
    }
}

#[test]
fn the_document_is_what_it_was() {
    let document = documented().into_openapi();
    insta::assert_json_snapshot!("openapi", document);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_is_there() {
    let server = Server::start().await;
    let document = server.get("/api/v1/openapi.json").await.body;
    assert_eq!(document["openapi"], "3.1.0");
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let at = path.replace("{trace_id}", "01JD3R5N7Q8V9W0X1Y2Z3A4B5C").replace("{task_id}", "01JD3R5N7Q8V9W0X1Y2Z3A4B5C").replace(['{', '}'], "");
            let answer = server.ask(method.to_uppercase().parse().unwrap(), &at, &[], Body::empty()).await;
            assert!(answer.body["code"] != "NO_SUCH_ROUTE" && answer.body["code"] != "METHOD_NOT_ALLOWED", "{method} {path}: {}", answer.text);
            operations += 1;
        }
    }
    assert!(operations >= 35, "{operations}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_begun_waited_for_and_read() {
    let server = Server::with_probe().await;
    let started = server.json(Method::POST, "/api/v1/traces?wait=30s", json!({ "definition_id": "probe", "params": { "do": "echo", "big": 1 } })).await;
    assert_eq!((started.status, &started.body["status"]), (StatusCode::OK, &json!("SUCCESS")), "{}", started.text);
    let id = started.body["trace_id"].as_str().unwrap().to_owned();
    let tasks = server.get(&format!("/api/v1/traces/trc_{id}/tasks?status=completed,failed&status=RUNNING&layer=0")).await;
    assert_eq!(tasks.body["items"].as_array().unwrap().len(), 1, "{}", tasks.text);
    let task = tasks.body["items"][0]["id"].as_str().unwrap().to_owned();
    assert!(server.get(&format!("/api/v1/tasks/{task}")).await.body["attempts"].is_array());
    assert!(server.get(&format!("/traces/{id}/tasks")).await.body.is_array());
    let events = server.get(&format!("/api/v1/traces/{id}/events?limit=1")).await;
    assert_eq!((events.body["items"][0]["seq"].as_u64(), events.body["next_cursor"].as_str()), (Some(1), Some("1")), "{}", events.text);
    let again = server.json(Method::POST, &format!("/api/v1/traces/{id}/retry"), json!({})).await;
    again.is_problem(409, "NOTHING_TO_RETRY");
    let cancelled = server.ask(Method::POST, &format!("/api/v1/traces/{id}/cancel"), &[], Body::empty()).await;
    assert_eq!((cancelled.status, cancelled.body["outcome"].as_str()), (StatusCode::OK, Some("ALREADY_ENDED")), "{}", cancelled.text);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_whole_history_and_ends() {
    let server = Server::with_probe().await;
    let started = server.json(Method::POST, "/traces/start", json!({ "def_id": "probe", "params": { "do": "echo" } })).await;
    assert_eq!(started.status, StatusCode::OK, "{}", started.text);
    let id = started.body["trace_id"].as_str().unwrap();
    let path = format!("/api/v1/traces/{id}/events");
    let stream = server.ask(Method::GET, &path, &[("accept", "text/event-stream")], Body::empty()).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let names: Vec<&str> = stream.text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((names.first(), names.last()), (Some(&"snapshot"), Some(&"end")), "{}", stream.text);
    assert!(names.contains(&"task"), "{}", stream.text);
    let last = stream.text.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let again = server.ask(Method::GET, &path, &[("accept", "text/event-stream"), ("last-event-id", last)], Body::empty()).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT, "{}", again.text);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_trace() {
    let server = Server::with_probe().await;
    let ask = |params: Value| {
        let body = json!({ "definition": "probe", "params": params }).to_string();
        server.ask(Method::POST, "/api/v1/traces", &[("content-type", "application/json"), ("idempotency-key", "\"k1\"")], body)
    };
    let first = ask(json!({ "do": "echo" })).await;
    assert_eq!((first.status, &first.headers["idempotent-replayed"]), (StatusCode::ACCEPTED, &"false".parse().unwrap()), "{}", first.text);
    let second = ask(json!({ "do": "echo" })).await;
    assert_eq!((&second.body["trace_id"], &second.headers["idempotent-replayed"]), (&first.body["trace_id"], &"true".parse().unwrap()));
    assert_eq!(second.headers["location"], format!("/api/v1/traces/{}", first.body["trace_id"].as_str().unwrap()));
    ask(json!({ "do": "add" })).await.is_problem(422, "IDEMPOTENCY_KEY_REUSED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_have_versions() {
    let server = Server::with_probe().await;
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "max_retries": 0 });
    let path = "/api/v1/definitions/probe";
    let same = server.json(Method::PUT, path, spec.clone()).await;
    assert_eq!((same.status, &same.headers["etag"]), (StatusCode::OK, &"\"1\"".parse().unwrap()));
    let found = server.get(path).await;
    let unchanged = server.ask(Method::GET, path, &[("if-none-match", "\"1\"")], Body::empty()).await;
    assert_eq!(unchanged.status, StatusCode::NOT_MODIFIED);
    // What was read can be sent back as it is.
    let mut changed = found.body.clone();
    changed["description"] = json!("new");
    let put = async |tag: &str| server.ask(Method::PUT, path, &[("content-type", "application/json"), ("if-match", tag)], changed.to_string()).await;
    put("\"7\"").await.is_problem(412, "STALE_VERSION");
    assert_eq!(put("\"1\"").await.body["version"], 2);
    let off = server.ask(Method::DELETE, path, &[], Body::empty()).await;
    assert_eq!(off.body["is_active"], false, "{}", off.text);
    server.json(Method::POST, "/api/v1/definitions/probe/trigger", json!({})).await.is_problem(409, "INACTIVE_DEFINITION");
    assert_eq!(server.get("/api/v1/definitions/probe?version=1").await.body["is_active"], true);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named() {
    let server = Server::with_probe().await;
    let post = |body: &'static str| server.ask(Method::POST, "/api/v1/traces", &[("content-type", "application/json")], body);
    post("{").await.is_problem(400, "BAD_JSON");
    post("{\"definition\":\"probe\",\"definition\":\"x\"}").await.is_problem(400, "BAD_JSON");
    post("{\"definition\":\"probe\",\"params\":{\"a\":\"\\u0000\"}}").await.is_problem(400, "BAD_JSON");
    let at = |answer: &Answer| answer.body["errors"][0]["pointer"].as_str().map(str::to_owned);
    for (body, pointer) in [
        ("{}", "/definition"),
        ("{\"definition\":\"probe\",\"trace_id\":\"x\"}", "/trace_id"),
        ("{\"definition\":\"probe\",\"priority\":11}", "/priority"),
        ("{\"definition\":\"probe\",\"priority\":\"high\"}", "/priority"),
        ("{\"definition\":\"probe\",\"params\":[]}", "/params"),
        ("{\"definition\":\"Nope!\"}", "/definition"),
    ] {
        let answer = post(body).await;
        answer.is_problem(422, "BAD_FIELDS");
        assert_eq!(at(&answer).as_deref(), Some(pointer), "{}", answer.text);
    }
    post("{\"definition\":\"nope\"}").await.is_problem(404, "NO_SUCH_DEFINITION");
    for query in ["limit=0", "limit=501", "limit=x", "status=NOPE", "wat=1", "since=yesterday"] {
        let answer = server.get(&format!("/api/v1/traces?{query}")).await;
        answer.is_problem(422, "BAD_QUERY");
        assert_eq!(at(&answer), Some(format!("?{}", query.split('=').next().unwrap())), "{}", answer.text);
    }
    server.get("/api/v1/traces?cursor=forged").await.is_problem(422, "BAD_CURSOR");
    server.get("/api/v1/traces/probe").await.is_problem(400, "BAD_ID");
    server.get("/api/v1/traces/01JD3R5N7Q8V9W0X1Y2Z3A4B5C").await.is_problem(404, "NO_SUCH_TRACE");
    server.get("/api/v1/traces/01JD3R5N7Q8V9W0X1Y2Z3A4B5C/tasks").await.is_problem(404, "NO_SUCH_TRACE");
    server.get("/api/v1/tasks/01JD3R5N7Q8V9W0X1Y2Z3A4B5C").await.is_problem(404, "NO_SUCH_TASK");
    server.get("/nope").await.is_problem(404, "NO_SUCH_ROUTE");
    let wrong = server.ask(Method::PUT, "/api/v1/traces", &[], Body::empty()).await;
    wrong.is_problem(405, "METHOD_NOT_ALLOWED");
    assert!(wrong.headers.contains_key("allow"));
    server.ask(Method::POST, "/api/v1/traces", &[("content-type", "text/plain")], "{}").await.is_problem(415, "WRONG_MEDIA_TYPE");
    server
        .ask(Method::POST, "/api/v1/traces", &[("content-type", "application/json"), ("content-encoding", "gzip")], "{}")
        .await
        .is_problem(415, "WRONG_MEDIA_TYPE");
    server.ask(Method::POST, "/api/v1/traces", &[("content-type", "application/json")], vec![b' '; 3 << 20]).await.is_problem(413, "TOO_LARGE");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_looked_at() {
    let server = Server::with_probe().await;
    let upload = |path: &'static str, headers: &'static [(&'static str, &'static str)], body: &'static [u8]| server.ask(Method::POST, path, headers, body);
    const WASM: &[(&str, &str)] = &[("content-type", "application/wasm")];
    upload("/api/v1/modules?name=x", WASM, b"not wasm").await.is_problem(422, "NOT_A_COMPONENT");
    upload("/api/v1/modules", WASM, b"").await.is_problem(422, "BAD_QUERY");
    upload("/api/v1/modules?name=x", &[("content-type", "text/html")], b"").await.is_problem(415, "WRONG_MEDIA_TYPE");
    upload("/api/v1/modules?name=x", &[("content-type", "application/wasm"), ("content-length", "99999999")], b"").await.is_problem(413, "TOO_LARGE");
    let probe = command_tower_examples::find("probe").unwrap().modules[0].wasm;
    let zeros = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
    server
        .ask(Method::POST, "/api/v1/modules?name=x", &[("content-type", "application/wasm"), ("digest", zeros)], probe)
        .await
        .is_problem(422, "DIGEST_MISMATCH");
    let again = upload("/api/v1/modules?name=probe&tag=v1", WASM, probe).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
    let digest = again.body["digest"].as_str().unwrap();
    assert_eq!(server.get(&format!("/api/v1/modules/probe/tags/{digest}")).await.body["size_bytes"], probe.len());
    assert!(server.get("/api/v1/modules/probe/tags/v1/wit").await.text.contains("command-tower:agent/step"));
    assert_eq!(server.get("/api/v1/modules/probe").await.body["tags"].as_array().unwrap().len(), 2);
    let first = server.get("/api/v1/modules?limit=1").await.body;
    let second = server.get(&format!("/api/v1/modules?limit=1&cursor={}", first["next_cursor"].as_str().unwrap())).await.body;
    assert_eq!((&first["items"][0]["tag"], &second["items"][0]["tag"]), (&json!("latest"), &json!("v1")));
    server.json(Method::PUT, "/api/v1/modules/probe/tags/v1", json!({ "digest": zeros })).await.is_problem(404, "NO_SUCH_MODULE");
    server.get("/api/v1/modules/nope").await.is_problem(404, "NO_SUCH_MODULE");
    let unknown = server.json(Method::PUT, "/api/v1/definitions/x", json!({ "actor_type": "AGENT", "code_ref": "wasm://nope" })).await;
    unknown.is_problem(422, "MODULE_UNKNOWN");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_and_dead_letters() {
    let server = Server::with_probe().await;
    let failed = server.json(Method::POST, "/api/v1/traces?wait=30s", json!({ "definition": "probe", "params": { "do": "retryable" } })).await;
    assert_eq!(failed.body["status"], "FAILED", "{}", failed.text);
    let letters = server.get("/api/v1/dead-letters").await;
    let task = letters.body["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{}", letters.text)).to_owned();
    assert_eq!(server.get(&format!("/api/v1/tasks/{task}")).await.body["attempts"].as_array().unwrap().len(), 1);
    let posted =
        server.json(Method::POST, "/events", json!([{ "event_id": "e1", "task_id": task, "event_type": "PROGRESS", "payload": { "percent": 5 } }])).await;
    assert_eq!(posted.body["items"][0]["verdict"], "stale", "{}", posted.text);
    let one = server.json(Method::POST, "/api/v1/events", json!({ "event_id": "e2", "task_id": task, "event_type": "COMPLETED" })).await;
    assert_eq!(one.body["items"][0]["verdict"], "rejected", "{}", one.text);
    let retried = server.json(Method::POST, "/api/v1/dead-letters/retry", json!({ "task_ids": [task, task] })).await;
    assert_eq!(retried.body["items"].as_array().unwrap().len(), 1, "{}", retried.text);
    assert!(retried.body["items"][0]["trace_id"].is_string(), "{}", retried.text);
    server.json(Method::POST, "/api/v1/dead-letters/retry", json!({ "task_ids": [] })).await.is_problem(422, "BAD_FIELDS");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_document_needs_no_network() {
    let server = Server::start().await;
    let page = server.get("/docs/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.text.contains("https://"), "{}", page.text);
    // The content security policy lets no inline script run.
    assert!(!page.text.contains("<script>"), "{}", page.text);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r27_a_handler_that_panics_is_answered_500_with_the_id_that_the_log_has() {
    async fn text() -> &'static str {
        panic!("the secret cause")
    }
    async fn value() -> &'static str {
        std::panic::panic_any(7)
    }
    let server = Server::start().await;
    let settings = ApiSettings {
        module_bytes_max: 1,
        body_timeout: std::time::Duration::from_secs(1),
        loopback_only: true,
        task_definition: None,
        stage_from: Vec::new(),
    };
    let routes = Router::new().route("/text", axum::routing::get(text)).route("/value", axum::routing::post(value));
    let server = Server { router: layers::around(routes, &settings), ..server };
    for (method, path) in [(Method::GET, "/text"), (Method::POST, "/value"), (Method::GET, "/text")] {
        let answer = server.ask(method, path, &[("x-request-id", "mine-1")], Body::empty()).await;
        answer.is_problem(500, "INTERNAL");
        assert_eq!((&answer.body["request_id"], &answer.headers["x-request-id"]), (&json!("mine-1"), &"mine-1".parse().unwrap()));
        assert!(!answer.text.contains("secret") && answer.headers["x-content-type-options"] == "nosniff", "{}", answer.text);
    }
    server.stop().await;
}

/// `routes!` registers a handler together with its documentation; the plain `route` does not.
#[test]
fn no_route_is_added_past_the_document() {
    fn walk(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                walk(&path, found);
            } else if name.ends_with(".rs") && !["docs.rs", "tests.rs"].contains(&&*name) && std::fs::read_to_string(&path).unwrap().contains(".route(") {
                found.push(path.display().to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut found);
    assert!(found.is_empty(), "not in the document: {found:?}");
}
