//! What may stand in a body.

use reqwest::StatusCode;
use reqwest::{Method, header};
use serde_json::{Value, json};

use super::assert_problem;
use crate::host::Host;

const TRACES: &str = "/api/v1/traces";

async fn with_probe() -> Host {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    host
}

/// Posts bytes as they are, by default as JSON.
async fn post(host: &Host, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> (StatusCode, Value) {
    let mut request = host.request(Method::POST, path).body(body.into());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// The pointers of what is wrong.
fn pointers(body: &Value) -> Vec<&str> {
    body["errors"].as_array().into_iter().flatten().map(|error| error["pointer"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_json_that_is_too_deep_is_refused_in_few_words() {
    let host = with_probe().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{{\"definition\":\"probe\",\"params\":{{\"x\":{}1{}}}}}", open.repeat(200), close.repeat(200));
        let answer = post(&host, TRACES, JSON, deep).await;
        assert_problem(&answer, 400, "BAD_JSON");
        assert!(answer.1.to_string().len() < 1_000, "{}", answer.1);
    }
    let deepest = format!("{{\"definition\":\"probe\",\"params\":{{\"do\":\"echo\",\"value\":{}1{}}}}}", "[".repeat(98), "]".repeat(98));
    assert_eq!(post(&host, TRACES, JSON, deepest).await.0, StatusCode::ACCEPTED);
    // Megabytes of opening brackets cost nothing.
    assert_problem(&post(&host, TRACES, JSON, "[".repeat(2_000_000)).await, 400, "BAD_JSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn r06_what_is_not_plain_utf_8_json_is_refused() {
    let host = with_probe().await;
    let params = |value: &str| format!("{{\"definition\":\"probe\",\"params\":{{\"x\":{value}}}}}").into_bytes();
    let utf16: Vec<u8> = "{\"definition\":\"probe\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (what, body) in [
        ("invalid UTF-8", b"{\"definition\":\"\xff\xfe\"}".to_vec()),
        ("overlong UTF-8", b"{\"definition\":\"\xc0\x80\"}".to_vec()),
        ("UTF-16", utf16),
        ("a byte order mark", "\u{feff}{\"definition\":\"probe\"}".as_bytes().to_vec()),
        ("NaN", params("NaN")),
        ("Infinity", params("-Infinity")),
        ("1e999", params("1e999")),
        ("a lone surrogate", params("\"\\ud800\"")),
        ("a lone low surrogate", params("\"\\udc00x\"")),
        ("two documents", b"{\"definition\":\"probe\"}{}".to_vec()),
        ("a trailing comma", params("[1,]")),
        ("a comment", b"{\"definition\":\"probe\"/**/}".to_vec()),
        ("a key twice", params("{\"a\":1,\"\\u0061\":2}")),
    ] {
        let answer = post(&host, TRACES, JSON, body).await;
        assert_eq!((answer.0.as_u16(), &answer.1["code"]), (400, &json!("BAD_JSON")), "{what}: {}", answer.1);
    }
    assert!(host.all(TRACES).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_wrong_media_types_and_encodings_are_refused_unread() {
    let host = with_probe().await;
    let body = "{\"definition\":\"probe\",\"params\":{\"do\":\"echo\"}}";
    for headers in [
        [].as_slice(),
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", "application/jsonx")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
        &[("content-type", "application/json"), ("content-encoding", "br")],
    ] {
        assert_problem(&post(&host, TRACES, headers, body).await, 415, "WRONG_MEDIA_TYPE");
    }
    assert_eq!(post(&host, TRACES, &[("content-type", "application/json; charset=utf-8")], body).await.0, StatusCode::ACCEPTED);
    // A kilobyte that would unpack to a megabyte is not unpacked.
    let wasm = [("content-type", "application/wasm"), ("content-encoding", "gzip")];
    assert_problem(&post(&host, "/api/v1/modules?name=x", &wasm, vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).await, 415, "WRONG_MEDIA_TYPE");
    assert_problem(&post(&host, "/api/v1/modules?name=x", JSON, "{}").await, 415, "WRONG_MEDIA_TYPE");
}

#[tokio::test(flavor = "multi_thread")]
async fn r08_a_missing_field_is_named_and_a_syntax_error_is_another_thing() {
    let host = with_probe().await;
    let missing = post(&host, TRACES, JSON, "{\"params\":{}}").await;
    assert_problem(&missing, 422, "BAD_FIELDS");
    assert_eq!(pointers(&missing.1), ["/definition"]);
    assert_problem(&post(&host, TRACES, JSON, "{\"definition\":").await, 400, "BAD_JSON");
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_r21_fields_that_are_the_hosts_are_refused() {
    let host = with_probe().await;
    for field in ["status", "lease_epoch", "fence", "tenant", "trace_id", "root_task_id", "node_path", "depth", "layer", "attempt", "cancelling", "__proto__"] {
        let answer = post(&host, TRACES, JSON, json!({ "definition": "probe", field: "x" }).to_string()).await;
        assert_problem(&answer, 422, "BAD_FIELDS");
        assert_eq!(pointers(&answer.1), [format!("/{field}")]);
        let answer = post(&host, "/api/v1/definitions/probe/trigger", JSON, json!({ field: 1 }).to_string()).await;
        assert_problem(&answer, 422, "BAD_FIELDS");
        let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", field: 1 });
        let answer = host.send(Method::PUT, "/api/v1/definitions/probe", Some(spec)).await;
        assert_problem(&answer, 422, "BAD_FIELDS");
    }
    for path in ["retry/factors", "aggregation/x", "capabilities/network", "resource_profile/cpus"] {
        let (outer, inner) = path.split_once('/').unwrap();
        let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", outer: { inner: 1 } });
        if outer == "aggregation" {
            spec[outer]["policy"] = json!("ALL");
        }
        assert_problem(&host.send(Method::PUT, "/api/v1/definitions/probe", Some(spec)).await, 422, "BAD_FIELDS");
    }
    assert!(host.all(TRACES).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_is_no_object_at_any_depth() {
    let host = with_probe().await;
    let spec = |field: &str, value: Value| {
        let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe" });
        spec[field] = value;
        spec
    };
    // What serde would read as the fields in their order.
    for (field, value) in [
        ("retry", json!([])),
        ("retry", json!([1.0, 2.0, 3.0, true])),
        ("aggregation", json!(["PARTIAL", { "min_success": 3 }])),
        ("capabilities", json!([null])),
        ("resource_profile", json!([65536, 1, 0])),
        ("retry", json!(null)),
        ("capabilities", json!("none")),
    ] {
        let answer = host.send(Method::PUT, "/api/v1/definitions/probe", Some(spec(field, value.clone()))).await;
        assert_problem(&answer, 422, "BAD_FIELDS");
        assert_eq!(pointers(&answer.1), [format!("/{field}")], "{value}");
        assert!(answer.1["detail"].as_str().unwrap().ends_with("expected an object"), "{}", answer.1);
    }
    for body in [json!([]), json!(["probe"]), json!([["e", null, "x", "PROGRESS"]])] {
        for path in [TRACES, "/api/v1/definitions", "/api/v1/dead-letters/retry"] {
            let answer = post(&host, path, JSON, body.to_string()).await;
            assert_problem(&answer, 422, "BAD_FIELDS");
            assert!(!answer.1.to_string().contains("struct"), "{}", answer.1);
        }
    }
    let answer = post(&host, "/api/v1/events", JSON, json!([["e-1", null, "01JD3R5N7Q8V9W0X1Y2Z3A4B5C", "PROGRESS"]]).to_string()).await;
    assert_problem(&answer, 422, "BAD_FIELDS");
    assert_eq!(pointers(&answer.1), ["/0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_r12_numbers_have_bounds() {
    let host = with_probe().await;
    for (field, bad, good) in [
        ("max_retries", ["-1", "101", "2147483648", "4294967296", "1.5", "1e3", "\"3\"", "null"].as_slice(), ["0", "100"].as_slice()),
        ("timeout_sec", &["0", "-1", "1.5", "86401", "1000000000000", "18446744073709551616"], &["1", "86400"]),
        ("priority", &["0", "11", "256", "-1"], &["1", "10"]),
        ("max_layers", &["-1", "1001", "4294967296"], &["0", "1000"]),
        ("max_children", &["-1", "1000001"], &["0", "1000000"]),
        ("retry", &["{\"initial_sec\":-1}", "{\"factor\":0}", "{\"max_sec\":1e308}", "{\"initial_sec\":\"1\"}"], &["{}"]),
        ("resource_profile", &["{\"memory_bytes\":0}", "{\"memory_bytes\":1e30}", "{\"cpu_ms\":0}", "{\"log_bytes\":18446744073709551615}"], &["{}"]),
    ] {
        let put = async |value: &str| {
            let body = format!("{{\"actor_type\":\"AGENT\",\"code_ref\":\"wasm://probe\",\"{field}\":{value}}}");
            let request = host.request(Method::PUT, "/api/v1/definitions/numbers").header(header::CONTENT_TYPE, "application/json").body(body);
            let response = request.send().await.unwrap();
            (response.status(), response.json::<Value>().await.unwrap())
        };
        for value in bad {
            let answer = put(value).await;
            assert_problem(&answer, 422, "BAD_FIELDS");
            assert!(pointers(&answer.1)[0].starts_with(&format!("/{field}")), "{value}: {}", answer.1);
        }
        for value in good {
            let (status, body) = put(value).await;
            assert!(status.is_success(), "{field}: {value}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r13_numbers_in_params_keep_their_digits() {
    let host = with_probe().await;
    let digits = "[18446744073709551616,-9223372036854775809,0.10000000000000000555,1E40,123456789012345678901234567890]";
    let body = format!("{{\"definition\":\"probe\",\"params\":{{\"do\":\"echo\",\"value\":{digits}}}}}");
    let response = host.request(Method::POST, &format!("{TRACES}?wait=30s")).header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let text = response.text().await.unwrap();
    // In the trace's params; the step that echoes them reads them as floats.
    assert!(text.contains(&format!("\"value\":{digits}")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r14_nul_is_refused_in_every_text() {
    let host = with_probe().await;
    for body in [
        "{\"definition\":\"probe\\u0000\"}",
        "{\"definition\":\"probe\",\"params\":{\"deep\":[{\"er\":\"a\\u0000b\"}]}}",
        "{\"definition\":\"probe\",\"params\":{\"a\\u0000\":1}}",
        "{\"definition\":\"probe\",\"user_id\":\"\\u0000\"}",
        "{\"definition\":\"probe\",\"labels\":{\"a\":\"\\u0000\"}}",
    ] {
        assert_problem(&post(&host, TRACES, JSON, body).await, 400, "BAD_JSON");
    }
    // Other control characters have no place in what people read.
    for body in [json!({ "definition": "probe", "user_id": "\u{1b}[31m" }), json!({ "definition": "probe", "labels": { "a": "\r\n" } })] {
        assert_problem(&post(&host, TRACES, JSON, body.to_string()).await, 422, "BAD_FIELDS");
    }
    assert_eq!(host.send(Method::GET, &format!("{TRACES}?user_id=%00"), None).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(host.all(TRACES).await.is_empty());
}
