//! What may stand in paths, queries and headers; and what browsers are told.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::assert_problem;
use super::raw::{Raw, get};
use crate::host::{Host, tower};

/// A canonical id that nobody has.
const NOBODY: &str = "01JD3R5N7Q8V9W0X1Y2Z3A4B5C";

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_path_is_there_and_every_path_is_documented() {
    let host = Host::start(&[]).await;
    let document = host.get("/api/v1/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let at: String = path.split('/').map(|part| if part.ends_with("_id}") { NOBODY } else { part.trim_matches(['{', '}']) }).collect::<Vec<_>>().join("/");
        for method in ["get", "put", "post", "delete", "patch"] {
            let (_, body) = host.send(method.to_uppercase().parse().unwrap(), &at, None).await;
            let routed = !matches!(body["code"].as_str(), Some("NO_SUCH_ROUTE" | "METHOD_NOT_ALLOWED"));
            assert_eq!(routed, methods.get(method).is_some(), "{method} {path}: {body}");
        }
        // Every operation says what it may answer when it does not work.
        for (method, operation) in methods.as_object().unwrap() {
            for status in ["400", "421", "500", "503"] {
                assert!(operation["responses"][status].is_object(), "{method} {path} {status}");
            }
        }
    }
    assert!(paths.len() >= 30, "{}", paths.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn r15_only_canonical_ids_are_ids() {
    let host = Host::start(&[]).await;
    for bad in [
        "x",
        "01JD3R5N7Q8V9W0X1Y2Z3A4B5",
        "01JD3R5N7Q8V9W0X1Y2Z3A4B5CC",
        "01JD3R5N7Q8V9W0X1Y2Z3A4B5I",
        "01JD3R5N7Q8V9W0X1Y2Z3A4B5L",
        "01JD3R5N7Q8V9W0X1Y2Z3A4B5O",
        "01JD3R5N7Q8V9W0X1Y2Z3A4B5U",
        "01jd3r5n7q8v9w0x1y2z3a4b5c",
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        "01JD3R5N7Q8V9W0X1Y2Z3%D0%905C",
        "01JD3R5N7Q8V9W0X1Y2Z3A4B5C%00",
        "%2001JD3R5N7Q8V9W0X1Y2Z3A4B5C",
        "-1",
    ] {
        for path in ["/api/v1/traces/{}", "/api/v1/traces/{}/tasks", "/api/v1/traces/{}/events", "/api/v1/tasks/{}", "/traces/{}/tasks"] {
            let answer = host.send(Method::GET, &path.replace("{}", bad), None).await;
            assert_problem(&answer, 400, "BAD_ID");
        }
        assert_problem(&host.send(Method::POST, &format!("/api/v1/traces/{bad}/cancel"), None).await, 400, "BAD_ID");
    }
    let letters = host.send(Method::POST, "/api/v1/dead-letters/retry", Some(json!({ "task_ids": ["x"] }))).await;
    assert_problem(&letters, 422, "BAD_FIELDS");
}

#[tokio::test(flavor = "multi_thread")]
async fn r17_what_nobody_has_is_answered_404_in_one_shape() {
    let host = Host::start(&[]).await;
    for (method, path, code) in [
        (Method::GET, "/api/v1/traces/{}", "NO_SUCH_TRACE"),
        (Method::GET, "/api/v1/traces/{}?wait=1s", "NO_SUCH_TRACE"),
        (Method::GET, "/api/v1/traces/{}/tasks", "NO_SUCH_TRACE"),
        (Method::GET, "/api/v1/traces/{}/events", "NO_SUCH_TRACE"),
        (Method::GET, "/api/v1/traces/{}/logs", "NO_SUCH_TRACE"),
        (Method::GET, "/api/v1/traces/{}/control-events", "NO_SUCH_TRACE"),
        (Method::POST, "/api/v1/traces/{}/cancel", "NO_SUCH_TRACE"),
        (Method::POST, "/api/v1/traces/{}/retry", "NO_SUCH_TRACE"),
        (Method::GET, "/traces/{}/tasks", "NO_SUCH_TRACE"),
        (Method::POST, "/traces/{}/cancel", "NO_SUCH_TRACE"),
        (Method::GET, "/api/v1/tasks/{}", "NO_SUCH_TASK"),
        (Method::GET, "/api/v1/tasks/{}/children", "NO_SUCH_TASK"),
        (Method::GET, "/api/v1/tasks/{}/logs", "NO_SUCH_TASK"),
        (Method::POST, "/api/v1/tasks/{}/cancel", "NO_SUCH_TASK"),
        (Method::GET, "/api/v1/definitions/nobody", "NO_SUCH_DEFINITION"),
        (Method::GET, "/api/v1/definitions/nobody/traces", "NO_SUCH_DEFINITION"),
        (Method::DELETE, "/api/v1/definitions/nobody", "NO_SUCH_DEFINITION"),
        (Method::POST, "/api/v1/definitions/nobody/trigger", "NO_SUCH_DEFINITION"),
        (Method::GET, "/api/v1/modules/nobody", "NO_SUCH_MODULE"),
        (Method::GET, "/api/v1/modules/nobody/tags/latest", "NO_SUCH_MODULE"),
        (Method::GET, "/api/v1/artifacts/sha256:0000000000000000000000000000000000000000000000000000000000000000", "NO_SUCH_ARTIFACT"),
    ] {
        assert_problem(&host.send(method, &path.replace("{}", NOBODY), None).await, 404, code);
    }
    // A filter that nothing fits is no error.
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "echo" })).await;
    for path in [
        format!("/api/v1/traces/{trace}/tasks?parent_id={NOBODY}"),
        "/api/v1/traces?definition_id=nobody".to_owned(),
        "/api/v1/traces?user_id=nobody".to_owned(),
    ] {
        assert_eq!(host.get(&path).await["items"], json!([]), "{path}");
    }
}

/// Text as it stands in a query.
fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r18_sql_is_text() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let before = host.all("/api/v1/modules").await.len();
    for sql in ["'; DROP TABLE traces; --", "\" OR 1=1 --", "x'||(SELECT 1)||'", "%' UNION SELECT * FROM tasks --", "\\'; VACUUM; --"] {
        let spec = json!({
            "actor_type": "AGENT", "code_ref": "wasm://probe", "name": sql, "user_id": sql, "description": sql, "role": sql, "strategy_tags": [sql],
            "labels": { sql: sql }, "default_params": { sql: sql },
        });
        let (status, put) = host.send(Method::PUT, "/api/v1/definitions/sql", Some(spec.clone())).await;
        assert!(status.is_success(), "{put}");
        let found = host.get("/api/v1/definitions/sql").await;
        for field in spec.as_object().unwrap().keys().filter(|field| *field != "code_ref") {
            assert_eq!(found[field], spec[field], "{field}");
        }
        let body = json!({ "definition": "sql", "params": { "do": "echo", "value": sql }, "user_id": sql, "labels": { "a": sql } });
        let request = host.request(Method::POST, "/api/v1/traces?wait=30s").header("idempotency-key", sql.replace('\\', "/")).json(&body);
        let trace: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!((&trace["output"], &trace["user_id"]), (&json!(sql), &json!(sql)), "{trace}");
        let task = trace["root_task_id"].as_str().unwrap();
        let event = json!({ "event_id": sql.replace(' ', "_"), "task_id": task, "event_type": "PROGRESS", "payload": { "percent": 1, "message": sql } });
        assert_eq!(host.post("/api/v1/events", event).await["items"][0]["verdict"], "stale");
        for name in ["user_id", "definition_id", "cursor", "status", "since"] {
            let response = host.request(Method::GET, &format!("/api/v1/traces?{name}={}", percent(sql))).send().await.unwrap();
            assert!(matches!(response.status().as_u16(), 200 | 422), "{name}: {}", response.status());
        }
        let mine = host.get(&format!("/api/v1/traces?user_id={}", percent(sql))).await;
        assert_eq!(mine["items"].as_array().unwrap().len(), 1);
    }
    assert_eq!((host.all("/api/v1/traces").await.len(), host.all("/api/v1/modules").await.len()), (5, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn r19_names_are_names() {
    let host = Host::start(&[]).await;
    for bad in [
        "%2e%2e",
        "%2e%2e%2fetc%2fpasswd",
        "..%2f",
        ".hidden",
        "a%5cb",
        "%2fabs",
        "a%00b",
        "a%0d%0aSet-Cookie:x",
        "A",
        "a%20b",
        "-a",
        "%F0%9F%97%BC",
        "%ff",
        "a%25b",
    ] {
        for path in
            ["/api/v1/definitions/{}", "/api/v1/modules/{}", "/api/v1/modules/{}/tags/latest", "/api/v1/modules/a/tags/{}", "/api/v1/modules/a/tags/{}/wit"]
        {
            let answer = Raw::saying(&host, get(&path.replace("{}", bad))).await.answer().await;
            let body: Value = serde_json::from_str(&answer.1).unwrap();
            assert_eq!((answer.0, &body["code"]), (400, &json!("BAD_NAME")), "{path} {bad}");
        }
    }
    let long = "a".repeat(129);
    assert_problem(&host.send(Method::GET, &format!("/api/v1/definitions/{long}"), None).await, 400, "BAD_NAME");
    assert_problem(&host.send(Method::GET, "/api/v1/modules/a/tags/sha256:xyz", None).await, 400, "BAD_NAME");
    assert_problem(&host.send(Method::GET, "/api/v1/artifacts/..%2f..%2fetc%2fpasswd", None).await, 400, "BAD_NAME");
    // Dots that no client has taken out of the path name no route, nor do empty segments.
    for path in ["/api/v1/definitions/../traces", "/api/v1/definitions//abs", "//api/v1/health", "/docs/..%2f..%2fetc%2fpasswd", "/docs/../../etc/passwd"] {
        assert_eq!(Raw::saying(&host, get(path)).await.answer().await.0, if path.contains("definitions/..") { 400 } else { 404 }, "{path}");
    }
    for (path, body) in [
        ("/api/v1/definitions", json!({ "id": "../x", "actor_type": "AGENT", "code_ref": "wasm://a" })),
        ("/api/v1/definitions", json!({ "id": "x", "actor_type": "AGENT", "code_ref": "wasm://../a" })),
        ("/api/v1/traces", json!({ "definition": "a/../b" })),
    ] {
        assert_problem(&host.send(Method::POST, path, Some(body)).await, 422, "BAD_FIELDS");
    }
    assert_problem(&host.send(Method::POST, "/api/v1/modules?name=..%2fx", None).await, 422, "BAD_QUERY");
}

#[tokio::test(flavor = "multi_thread")]
async fn r29_pages_have_bounds_and_cursors_are_checked() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.trigger("probe", json!({ "do": "echo" })).await;
    host.ended(&trace).await;
    let task = host.get(&format!("/api/v1/traces/{trace}")).await["root_task_id"].as_str().unwrap().to_owned();
    for list in [
        "/api/v1/traces".to_owned(),
        "/api/v1/definitions".to_owned(),
        "/api/v1/definitions/probe/traces".to_owned(),
        "/api/v1/users/u/definitions".to_owned(),
        "/api/v1/modules".to_owned(),
        "/api/v1/modules/probe".to_owned(),
        "/api/v1/dead-letters".to_owned(),
        format!("/api/v1/traces/{trace}/tasks"),
        format!("/api/v1/traces/{trace}/events"),
        format!("/api/v1/traces/{trace}/logs"),
        format!("/api/v1/traces/{trace}/control-events"),
        format!("/api/v1/tasks/{task}/children"),
        format!("/api/v1/tasks/{task}/logs"),
        format!("/traces/{trace}/tasks"),
    ] {
        for limit in ["0", "-1", "501", "1000000000", "18446744073709551616", "x", "", "1.5"] {
            assert_problem(&host.send(Method::GET, &format!("{list}?limit={limit}"), None).await, 422, "BAD_QUERY");
        }
        assert_problem(&host.send(Method::GET, &format!("{list}?nonsense=1"), None).await, 422, "BAD_QUERY");
        for cursor in ["%2e%2e%2f", "-1", "%ff", "'%20OR%201=1"] {
            let answer = host.send(Method::GET, &format!("{list}?cursor={cursor}"), None).await;
            assert_eq!(answer.0, StatusCode::UNPROCESSABLE_ENTITY, "{list} {cursor}: {}", answer.1);
        }
        assert_eq!(host.send(Method::GET, &format!("{list}?limit=500"), None).await.0, StatusCode::OK, "{list}");
    }
    for query in ["after=-1", "after=18446744073709551616", "after=x"] {
        assert_problem(&host.send(Method::GET, &format!("/api/v1/traces/{trace}/events?{query}"), None).await, 422, "BAD_QUERY");
    }
    assert_eq!(host.get(&format!("/api/v1/traces/{trace}/events?after=18446744073709551615")).await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn short_lists_are_paged_as_well() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let digest = host.get("/api/v1/modules/probe").await["modules"][0]["digest"].clone();
    for tag in ["v1", "v2", "v3"] {
        let moved = host.send(Method::PUT, &format!("/api/v1/modules/probe/tags/{tag}"), Some(json!({ "digest": digest }))).await;
        assert_eq!(moved.0, StatusCode::OK, "{}", moved.1);
    }
    let first = host.get("/api/v1/modules/probe?limit=3").await;
    let tags = |page: &Value| page["tags"].as_array().unwrap().iter().map(|tag| tag["tag"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!((tags(&first), first["next_cursor"].as_str()), (vec!["latest".to_owned(), "v1".to_owned(), "v2".to_owned()], Some("v2")));
    let second = host.get("/api/v1/modules/probe?limit=3&cursor=v2").await;
    assert_eq!((tags(&second), &second["next_cursor"]), (vec!["v3".to_owned()], &Value::Null));
    // Orders: three subtrees are cancelled one by one.
    let trace = host.trigger("probe", json!({ "do": "split", "n": 3, "params": { "do": "nap_in_host", "ms": 60000 } })).await;
    let path = format!("/api/v1/traces/{trace}/tasks?layer=1");
    let children = host.until("the children", &path, |page| page["items"].as_array().filter(|items| items.len() == 3).cloned()).await;
    for child in children {
        host.post(&format!("/api/v1/tasks/{}/cancel", child["id"].as_str().unwrap()), json!({ "reason": "enough" })).await;
    }
    let path = format!("/api/v1/traces/{trace}/control-events");
    let first = host.get(&format!("{path}?limit=2")).await;
    let second = host.get(&format!("{path}?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    let count = |page: &Value| page["items"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&second), &second["next_cursor"]), (2, 1, &Value::Null));
    assert_eq!(host.all(&path).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_have_validators_as_definitions_have() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let path = "/api/v1/modules/probe/tags/latest";
    let found = host.request(Method::GET, path).send().await.unwrap();
    let tag = found.headers()["etag"].to_str().unwrap().to_owned();
    let digest = found.json::<Value>().await.unwrap()["digest"].clone();
    assert_eq!(tag, format!("\"{}\"", digest.as_str().unwrap()));
    let known = host.request(Method::GET, path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
    let put = async |if_match: &str| {
        let response = host.request(Method::PUT, path).header("if-match", if_match).json(&json!({ "digest": digest })).send().await.unwrap();
        (response.status(), response.json::<Value>().await.unwrap())
    };
    assert_problem(&put("\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"").await, 412, "STALE_VERSION");
    assert_problem(&put("latest").await, 400, "BAD_HEADER");
    assert_eq!(put(&tag).await.0, StatusCode::OK);
    let stale = host.request(Method::DELETE, "/api/v1/definitions/probe").header("if-match", "\"7\"").send().await.unwrap();
    assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED);
}

#[tokio::test(flavor = "multi_thread")]
async fn r46_pages_of_other_origins_get_nothing_and_markup_stays_text() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let ask = async |method: Method, headers: &[(&str, &str)]| {
        let mut request = host.request(method.clone(), "/api/v1/traces");
        if method == Method::POST {
            request = request.json(&json!({ "definition": "probe", "params": { "do": "echo" } }));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        assert!(!response.headers().keys().any(|name| name.as_str().starts_with("access-control")), "{:?}", response.headers());
        (response.status(), response.json::<Value>().await.unwrap())
    };
    for headers in [
        [("origin", "http://evil.example")].as_slice(),
        &[("origin", "null")],
        &[("origin", "http://localhost:1")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
    ] {
        assert_problem(&ask(Method::POST, headers).await, 403, "CROSS_SITE");
    }
    // A name of somebody else that points at this machine.
    for name in ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"] {
        assert_problem(&ask(Method::GET, &[("host", name)]).await, 421, "WRONG_HOST");
        assert_problem(&ask(Method::POST, &[("host", name)]).await, 421, "WRONG_HOST");
    }
    assert_eq!(Raw::saying(&host, "GET /api/v1/health HTTP/1.0\r\n\r\n").await.answer().await.0, 421, "no name at all");
    assert_eq!(Raw::saying(&host, "GET http://evil.example/api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.answer().await.0, 421);
    assert!(host.all("/api/v1/traces").await.is_empty());
    assert_eq!(ask(Method::POST, &[("origin", &host.url)]).await.0, StatusCode::ACCEPTED);
    assert_eq!(host.request(Method::OPTIONS, "/api/v1/traces").header("origin", "http://evil.example").send().await.unwrap().status(), 405);

    let markup = "<script>alert(1)</script>";
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "name": markup, "description": markup });
    assert!(host.send(Method::PUT, "/api/v1/definitions/markup", Some(spec)).await.0.is_success());
    for path in ["/api/v1/definitions/markup", "/api/v1/nowhere/<script>", "/docs/", "/api/v1/health", "/traces/<script>/tasks"] {
        let response = host.request(Method::GET, path).send().await.unwrap();
        let headers = response.headers();
        for (name, value) in [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")] {
            assert_eq!(headers[name], value, "{path}");
        }
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe-eval") && !policy.contains("script-src"), "{policy}");
        assert!(headers["x-request-id"].to_str().is_ok_and(|id| !id.is_empty()));
        if path != "/docs/" {
            let media_type = headers["content-type"].to_str().unwrap();
            assert!(matches!(media_type, "application/json" | "application/problem+json"), "{path}: {media_type}");
            assert_eq!(headers["cache-control"], "no-store", "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_taken_if_it_is_fit_for_a_log() {
    let host = Host::start(&[]).await;
    let ask = async |id: &str| {
        let response = host.request(Method::GET, "/api/v1/nowhere").header("x-request-id", id).send().await.unwrap();
        let told = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(response.json::<Value>().await.unwrap()["request_id"], told);
        told
    };
    assert_eq!(ask("mine-1").await, "mine-1");
    for bad in ["two words", &"x".repeat(129), "tab\there", ""] {
        assert!(ask(bad).await.starts_with("req_"), "{bad}");
    }
}

#[test]
fn r47_a_host_that_strangers_could_reach_does_not_start() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let folder = tempfile::tempdir().unwrap();
        let output = tower().args(["serve", "--listen", listen, "--data-dir"]).arg(folder.path().join("data")).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("no authentication"), "{told}");
        assert!(!folder.path().join("data").exists(), "nothing was made");
    }
}
