//! `tower api`.

use serde_json::{Value, json};

use super::{ok, run};
use crate::host::Host;

#[tokio::test(flavor = "multi_thread")]
async fn any_route_is_reached_and_its_body_printed_as_it_is() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let some = Some(&host);
    let body = ok(some, &["api", "POST", "/traces", "-d", r#"{"definition":"probe","params":{"do":"echo"}}"#, "-H", "Idempotency-Key: once"]);
    let started: Value = serde_json::from_str(&body).unwrap();
    let id = started["trace_id"].as_str().unwrap();
    host.ended(id).await;
    let again = ok(some, &["api", "post", "/api/v1/traces", "-d", r#"{"definition":"probe","params":{"do":"echo"}}"#, "-H", "Idempotency-Key: once"]);
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["trace_id"], id);
    let direct = host.request(reqwest::Method::GET, &format!("/api/v1/traces/{id}/tasks")).send().await.unwrap().text().await.unwrap();
    assert_eq!(ok(some, &["api", "GET", &format!("/traces/{id}/tasks")]), direct, "byte for byte");
    assert!(ok(some, &["api", "GET", "/health"]).contains("\"ok\""));
    assert!(ok(some, &["api", "GET", "/readyz", "--root"]).contains("\"ready\""));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({ "definition": "probe", "params": { "do": "echo" } }).to_string()).unwrap();
    ok(some, &["api", "POST", "/traces", "-d", &format!("@{}", file.path().display())]);
    let pages = ok(some, &["api", "GET", "/traces?limit=1", "--paginate"]);
    let pages: Vec<Value> = pages.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pages.iter().map(|page| page["items"].as_array().unwrap().len()).sum::<usize>(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_the_status_and_stdout_the_problem() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let definition = r#"{"actor_type":"AGENT","code_ref":"wasm://probe"}"#;
    for (args, code, name) in [
        (&["api", "GET", "/traces/01ARZ3NDEKTSV4RRFFQ69G5FAV"][..], 3, "NO_SUCH_TRACE"),
        (&["api", "GET", "/nowhere"], 3, "NO_SUCH_ROUTE"),
        (&["api", "PUT", "/definitions/probe", "-d", definition, "-H", "If-Match: \"99\""], 5, "STALE_VERSION"),
        (&["api", "POST", "/traces", "-d", "{}"], 2, "BAD_FIELDS"),
        (&["api", "POST", "/traces", "-d", "{}", "-H", "Origin: http://evil.example"], 4, "CROSS_SITE"),
    ] {
        let refused = run(Some(&host), args);
        let problem: Value = serde_json::from_slice(&refused.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {refused:?}"));
        assert_eq!((refused.status.code(), &problem["code"]), (Some(code), &json!(name)), "{args:?}");
    }
    for wrong in [&["api", "FLY", "/traces"][..], &["api", "GET", "traces"], &["api", "GET", "/traces", "-H", "nothing"]] {
        assert_eq!(run(Some(&host), wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(run(Some(&host), &["api", "POST", "/traces", "-d", "@/no/such/file"]).status.code(), Some(3));
}
