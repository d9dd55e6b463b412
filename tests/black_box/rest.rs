//! The API's habits: problems, idempotency, pages, validators, and what hostile input is answered with.

mod bodies;
mod connections;
mod paths;
mod raw;
mod states;
mod streams;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::host::Host;

/// The answer is a problem of this status and code, with everything that a problem has.
fn assert_problem((status, body): &(StatusCode, Value), expected: u16, code: &str) {
    assert_eq!((status.as_u16(), &body["code"]), (expected, &json!(code)), "{body}");
    assert_eq!(body["status"], expected);
    for field in ["type", "title", "request_id"] {
        assert!(body[field].is_string(), "{field} of {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_uploaded_once_and_its_tags_move() {
    let host = Host::start(&[]).await;
    let probe = command_tower_examples::find("probe").unwrap().modules[0].wasm;
    let strategy = command_tower_examples::find("financial-analysis").unwrap().modules[1].wasm;
    let upload = async |path: &str, bytes: &'static [u8]| {
        let response = host.request(Method::POST, path).header("content-type", "application/wasm").body(bytes).send().await.unwrap();
        (response.status(), response.json::<Value>().await.unwrap())
    };
    let (status, first) = upload("/api/v1/modules?name=mine&tag=v1", probe).await;
    assert_eq!(status, StatusCode::CREATED, "{first}");
    assert!(first["exports"].to_string().contains("command-tower:agent/step@0.1.0"));
    assert_eq!((&first["size_bytes"], &first["contract"]), (&json!(probe.len()), &json!("0.1.0")));
    let (status, again) = upload("/api/v1/modules?name=mine&tag=v1", probe).await;
    assert_eq!((status, &again["digest"]), (StatusCode::OK, &first["digest"]), "the same bytes are the same module");
    let (_, second) = upload("/api/v1/modules?name=mine&tag=v2", strategy).await;
    assert_ne!(first["digest"], second["digest"]);
    let moved = host.send(Method::PUT, "/api/v1/modules/mine/tags/v2", Some(json!({ "digest": first["digest"] }))).await;
    assert_eq!(moved.0, StatusCode::OK, "{moved:?}");
    assert_eq!(host.get("/api/v1/modules/mine/tags/v2").await["digest"], first["digest"]);
    let wit = host.request(Method::GET, "/api/v1/modules/mine/tags/v1/wit").send().await.unwrap().text().await.unwrap();
    assert!(wit.contains("export command-tower:agent/step@0.1.0"), "{wit}");
    assert_problem(&host.send(Method::GET, "/api/v1/modules/nobody", None).await, 404, "NO_SUCH_MODULE");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_module_is_refused_with_the_reason() {
    let host = Host::start(&[]).await;
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    let mut truncated = command_tower_examples::find("probe").unwrap().modules[0].wasm.to_vec();
    truncated.truncate(truncated.len() / 2);
    for (bytes, code) in [
        (b"(component)".to_vec(), "NOT_A_COMPONENT"),
        (Vec::new(), "NOT_A_COMPONENT"),
        (core_module, "NOT_A_COMPONENT"),
        (truncated, "NOT_A_COMPONENT"),
        (empty_component, "WORLD_MISMATCH"),
    ] {
        let response = host.request(Method::POST, "/api/v1/modules?name=bad").header("content-type", "application/wasm").body(bytes).send().await.unwrap();
        let answer = (response.status(), response.json::<Value>().await.unwrap());
        assert_problem(&answer, 422, code);
    }
    assert_eq!(host.get("/api/v1/modules").await, json!({ "items": [], "next_cursor": null }), "nothing was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_are_checked_versioned_and_guarded() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let spec = |retries: u64| json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "max_retries": retries, "params_schema": { "type": "object", "properties": { "do": { "type": "string" } }, "required": ["do"] } });
    let put = async |spec: Value, if_match: Option<&str>| {
        let mut request = host.request(Method::PUT, "/api/v1/definitions/mine").json(&spec);
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        let response = request.send().await.unwrap();
        let tag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        (response.status(), tag, response.json::<Value>().await.unwrap())
    };
    let (status, first_tag, body) = put(spec(1), None).await;
    assert_eq!((status, &body["version"]), (StatusCode::CREATED, &json!(1)), "{body}");
    let (status, same_tag, _) = put(spec(1), None).await;
    assert_eq!((status, &same_tag), (StatusCode::OK, &first_tag), "the same again makes no version");
    let (status, second_tag, _) = put(spec(2), first_tag.as_deref()).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(first_tag, second_tag);
    let (status, _, body) = put(spec(3), first_tag.as_deref()).await;
    assert_problem(&(status, body), 412, "STALE_VERSION");
    let unchanged = host.request(Method::GET, "/api/v1/definitions/mine").header("if-none-match", second_tag.unwrap()).send().await.unwrap();
    assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);

    let bad = |field: &str, value: Value| {
        let mut spec = spec(1);
        spec[field] = value;
        spec
    };
    for (spec, pointer) in [
        (bad("max_retries", json!(101)), "/max_retries"),
        (bad("timeout_sec", json!(0)), "/timeout_sec"),
        (bad("priority", json!(11)), "/priority"),
        (bad("aggregation", json!({ "policy": "PARTIAL", "min_success": 4_000_000_000_u32 })), "/aggregation/min_success"),
        (bad("status", json!("SUCCESS")), "status"),
        (bad("actor_type", json!("WIZARD")), "WIZARD"),
        (bad("code_ref", json!("wasm://nobody")), "nobody"),
        (bad("code_ref", json!("ftp://x")), "ftp"),
        (bad("params_schema", json!({ "type": 7 })), "schema"),
    ] {
        let (status, _, body) = put(spec, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{pointer}: {body}");
        assert!(body.to_string().contains(pointer), "{pointer}: {body}");
    }
    assert_eq!(host.get("/api/v1/definitions/mine").await["version"], 2, "nothing refused was kept");

    let answer = host.send(Method::POST, "/api/v1/traces", Some(json!({ "definition": "mine", "params": { "do": 7 } }))).await;
    assert_problem(&answer, 422, "PARAMS_INVALID");
    assert!(answer.1["errors"].to_string().contains("/do"), "{}", answer.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_begins_one_trace() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trigger = async |key: &str, value: u64| {
        let body = json!({ "definition": "probe", "params": { "do": "echo", "value": value } });
        let response = host.request(Method::POST, "/api/v1/traces").header("idempotency-key", key).json(&body).send().await.unwrap();
        let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
        (response.status(), replayed, response.json::<Value>().await.unwrap())
    };
    let all = futures::future::join_all((0..50).map(|_| trigger("one", 1))).await;
    let ids: std::collections::HashSet<_> = all.iter().map(|(_, _, body)| body["trace_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((ids.len(), all.iter().filter(|(_, replayed, _)| !replayed).count()), (1, 1));
    let (status, _, body) = trigger("one", 2).await;
    assert_problem(&(status, body), 422, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(host.all("/api/v1/traces").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_bodies_are_refused_and_harm_nothing() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let post = async |body: Vec<u8>| {
        let response = host.request(Method::POST, "/api/v1/traces").header("content-type", "application/json").body(body).send().await.unwrap();
        (response.status(), response.json::<Value>().await.unwrap())
    };
    let deep = format!("{{\"definition\":\"probe\",\"params\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    for body in [
        "",
        "{",
        "nonsense",
        "{\"definition\":\"probe\",\"definition\":\"probe\"}",
        "{\"definition\":\"probe\",\"params\":{\"do\":\"\\u0000\"}}",
        "NaN",
        &deep,
        "\u{feff}{}",
    ] {
        let answer = post(body.as_bytes().to_vec()).await;
        assert_problem(&answer, 400, "BAD_JSON");
    }
    assert_eq!(post(vec![0xff, 0xfe, b'{']).await.0, StatusCode::BAD_REQUEST);
    for body in [
        "{}",
        "{\"definition\":\"probe\",\"trace_id\":\"x\"}",
        "{\"definition\":7}",
        "{\"definition\":\"../../etc\"}",
        "[]",
        "[\"probe\",{\"do\":\"echo\"},5,null,\"u\",{},\"MANUAL\"]",
        "\"probe\"",
    ] {
        let answer = post(body.as_bytes().to_vec()).await;
        assert_eq!(answer.0, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {}", answer.1);
    }
    let answer = post(format!("{{\"definition\":\"probe\",\"params\":{{\"x\":\"{}\"}}}}", "a".repeat(4 << 20)).into_bytes()).await;
    assert_eq!(answer.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_problem(&host.send(Method::POST, "/api/v1/traces", Some(json!({ "definition": "nobody" }))).await, 404, "NO_SUCH_DEFINITION");
    assert_problem(&host.send(Method::GET, "/api/v1/traces/8ZZZZZZZZZZZZZZZZZZZZZZZZZ", None).await, 400, "BAD_ID");
    assert_problem(&host.send(Method::GET, "/api/v1/traces/01JD3R5N7Q8V9W0X1Y2Z3A4B5C", None).await, 404, "NO_SUCH_TRACE");
    assert_problem(&host.send(Method::GET, "/api/v1/nowhere", None).await, 404, "NO_SUCH_ROUTE");
    assert_problem(&host.send(Method::DELETE, "/api/v1/traces", None).await, 405, "METHOD_NOT_ALLOWED");
    for query in ["limit=0", "limit=501", "limit=x", "cursor=forged", "status=WIZARD", "nonsense=1"] {
        let answer = host.send(Method::GET, &format!("/api/v1/traces?{query}"), None).await;
        assert_eq!(answer.0, StatusCode::UNPROCESSABLE_ENTITY, "{query}: {}", answer.1);
    }
    assert!(host.all("/api/v1/traces").await.is_empty());
    assert_eq!(host.get("/api/v1/health").await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_keep_their_digits_and_text_its_letters() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let body = r#"{"definition":"probe","params":{"do":"echo","value":{"big":18446744073709551616,"text":"'; DROP TABLE tasks; -- <script>指令塔"}}}"#;
    let started = host.request(Method::POST, "/api/v1/traces?wait=30s").header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(started.status(), StatusCode::OK, "it ended within the wait");
    let text = started.text().await.unwrap();
    assert!(text.contains("18446744073709551616"), "{text}");
    assert!(text.contains("'; DROP TABLE tasks; -- <script>指令塔"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_stable_while_the_list_grows() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    for _ in 0..12 {
        host.trigger("probe", json!({ "do": "echo" })).await;
    }
    let first = host.get("/api/v1/traces?limit=5").await;
    host.trigger("probe", json!({ "do": "echo" })).await;
    let second = host.get(&format!("/api/v1/traces?limit=5&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    let third = host.get(&format!("/api/v1/traces?limit=5&cursor={}", second["next_cursor"].as_str().unwrap())).await;
    let ids: Vec<String> = [&first, &second, &third]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|trace| trace["trace_id"].as_str().unwrap().to_owned())
        .collect();
    let mut newest_first = ids.clone();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    newest_first.dedup();
    assert_eq!((ids.len(), &ids), (12, &newest_first));
    assert_eq!(third["next_cursor"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_can_wait_for_its_time() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let soon = (chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::UNIX_EPOCH)
        + std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap()
        + std::time::Duration::from_secs(5))
    .to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let started = host.post("/api/v1/traces", json!({ "definition": "probe", "params": { "do": "echo" }, "run_at": soon })).await;
    let task = host.get(&format!("/api/v1/tasks/{}", started["root_task_id"].as_str().unwrap())).await;
    assert_eq!((&task["status"], &task["phase"]), (&json!("PENDING"), &json!("SCHEDULED")), "{task}");
    assert_eq!(task["waiting_on"][0]["kind"], "time", "{task}");
    let ended = host.ended(started["trace_id"].as_str().unwrap()).await;
    assert_eq!(ended["status"], "SUCCESS");
    assert!(ended["started_at"].as_str().unwrap() >= soon.as_str(), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_paths_are_kept() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let started = host.post("/traces/start", json!({ "def_id": "probe", "params": { "do": "split", "n": 2 } })).await;
    let trace = started["trace_id"].as_str().unwrap();
    host.ended(trace).await;
    let tasks = host.get(&format!("/traces/{trace}/tasks?status=SUCCESS&layer=1")).await;
    assert_eq!(tasks.as_array().unwrap().len(), 2, "a bare array: {tasks}");
    let nap = host.post("/traces/start", json!({ "def_id": "probe", "params": { "do": "nap_in_host", "ms": 60000 } })).await;
    let nap = nap["trace_id"].as_str().unwrap();
    assert_eq!(host.post(&format!("/traces/{nap}/cancel"), json!({})).await["status"], "cancelled");
    assert_eq!(host.ended(nap).await["status"], "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_its_page_need_no_network() {
    let host = Host::start(&[]).await;
    let document = host.get("/api/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let page = host.request(Method::GET, "/docs/").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let html = page.text().await.unwrap();
    assert!(html.contains("swagger-ui") && !html.contains("//cdn"), "{html}");
    let script = host.request(Method::GET, "/docs/swagger-ui-bundle.js").send().await.unwrap();
    assert_eq!(script.status(), StatusCode::OK);
}
