//! Bad input about code outside of the host.

use reqwest::Method;
use serde_json::{Value, json};

use crate::host::Host;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_about_code_outside_is_named() {
    let host = Host::start(&["--worker-url", "http://127.0.0.1:9/steps"]).await;
    let put = |code: &str, fields: Value| {
        let mut spec = json!({ "actor_type": "AGENT", "code_ref": code });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        host.send(Method::PUT, "/api/v1/definitions/bad", Some(spec))
    };
    for (code, fields, problem, pointer) in [
        ("ftp://x", json!({}), "BAD_FIELDS", "/code_ref"),
        ("worker://A B", json!({}), "BAD_FIELDS", "/code_ref"),
        ("http://user:pass@127.0.0.1:9/steps", json!({}), "BAD_FIELDS", "/code_ref"),
        ("http://127.0.0.1:9/other", json!({}), "WORKER_NOT_ALLOWED", ""),
        ("http://169.254.169.254/latest", json!({}), "WORKER_NOT_ALLOWED", ""),
        ("http://127.0.0.1:9/steps/../admin", json!({}), "WORKER_NOT_ALLOWED", ""),
        ("wasm://probe", json!({ "folds": true }), "BAD_FIELDS", "/folds"),
    ] {
        let (status, body) = put(code, fields).await;
        assert_eq!((status.as_u16(), body["code"].as_str()), (422, Some(problem)), "{code}: {body}");
        if !pointer.is_empty() {
            assert_eq!(body["errors"][0]["pointer"], pointer, "{body}");
        }
    }
    for (body, pointer) in [
        (json!({}), "/queue"),
        (json!({ "queue": "Not a name" }), "/queue"),
        (json!({ "queue": "q", "wait": "2h" }), "/wait"),
        (json!({ "queue": "q", "wait": "soon" }), "/wait"),
        (json!({ "queue": "q", "worker": "a\u{7}" }), "/worker"),
        (json!({ "queue": "q", "many": 2 }), "/many"),
    ] {
        let (status, answer) = host.send(Method::POST, "/api/v1/workers/claim", Some(body.clone())).await;
        assert_eq!((status.as_u16(), &answer["errors"][0]["pointer"]), (422, &json!(pointer)), "{body}: {answer}");
    }
}
