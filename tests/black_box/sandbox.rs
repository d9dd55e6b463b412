//! What hostile guests come to, seen from outside; each class has its own tests at the executor.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{Host, repository};

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_misbehave_ends_with_its_code_and_the_host_goes_on() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let put = json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "timeout_sec": 1, "max_retries": 0 });
    let (status, body) = host.send(reqwest::Method::PUT, "/api/v1/definitions/brief", Some(put)).await;
    assert!(status.is_success(), "{body}");
    let cases = [
        (json!({ "do": "loop" }), "GUEST_TIMEOUT"),
        (json!({ "do": "nap_in_host", "ms": 60000 }), "GUEST_TIMEOUT"),
        (json!({ "do": "recurse" }), "GUEST_STACK_OVERFLOW"),
        (json!({ "do": "grow" }), "GUEST_MEMORY_LIMIT"),
        (json!({ "do": "panic" }), "GUEST_TRAP"),
        (json!({ "do": "exit" }), "GUEST_NO_RESULT"),
        (json!({ "do": "big_output", "bytes": 3_000_000 }), "GUEST_RESULT_TOO_LARGE"),
        (json!({ "do": "fatal", "code": "MINE", "message": "told \u{1b}[2Jso\r\nforged" }), "MINE"),
    ];
    for (params, code) in cases {
        let begin = Instant::now();
        let trace = host.run("brief", params.clone()).await;
        assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!(code)), "{params}: {trace}");
        let message = trace["error"]["message"].as_str().unwrap();
        assert!(!message.contains('\u{1b}') && !message.contains('\r'), "{message:?}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{params}: {:?}", begin.elapsed());
    }
    let fine = host.run("brief", json!({ "do": "echo", "value": 1 })).await;
    assert_eq!((&fine["status"], &fine["output"]), (&json!("SUCCESS"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_nothing_that_it_was_not_granted() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let trace = host.run("probe-exec", json!({ "do": "env" })).await;
    let said = trace["output"].to_string();
    assert!(!said.contains("PATH") && !said.contains("tower"), "{said}");
    let files = host.run("probe-exec", json!({ "do": "list", "path": "/" })).await;
    assert!(!files["output"].to_string().contains("etc"), "{files}");
    assert_eq!(host.run("probe-exec", json!({ "do": "stdin" })).await["output"].as_str().unwrap_or_default(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_workspace_can_be_read_and_not_left_or_changed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("inside.txt"), "seen").unwrap();
    std::os::unix::fs::symlink(repository().join("Cargo.toml"), folder.path().join("out.toml")).unwrap();
    let host = Host::start(&["--mount", &format!("source={}", folder.path().display())]).await;
    host.install("probe").await;
    let read = async |path: &str| host.run("probe-workspace", json!({ "do": "read", "path": path })).await;
    assert!(read("/workspace/inside.txt").await.to_string().contains("seen"));
    for path in ["/workspace/../etc/passwd", "/workspace/out.toml", "/etc/passwd", "/workspace/../../etc/passwd"] {
        let trace = read(path).await;
        let said = trace.to_string();
        assert!(!said.contains("root:") && !said.contains("[workspace]"), "{path}: {said}");
    }
    host.run("probe-workspace", json!({ "do": "write", "path": "/workspace/new.txt", "text": "x" })).await;
    assert!(!folder.path().join("new.txt").exists());
    // A definition that names a mount which nobody declared is refused, and told how to declare it.
    let put = json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "capabilities": { "workspace": "nowhere" } });
    let (status, body) = host.send(reqwest::Method::PUT, "/api/v1/definitions/lost", Some(put)).await;
    assert_eq!(status.as_u16(), 422);
    assert!(body.to_string().contains("--mount"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_guests_do_not_hold_up_the_others() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let busy = host.trigger("probe", json!({ "do": "split", "n": 16, "params": { "do": "loop" } })).await;
    host.until("the busy guests to run", &format!("/api/v1/traces/{busy}/tasks?status=RUNNING&layer=1"), |page| {
        (page["items"].as_array()?.len() >= 16).then_some(())
    })
    .await;
    let begin = Instant::now();
    for _ in 0..5 {
        let trace = host.run("probe", json!({ "do": "echo", "value": 1 })).await;
        assert_eq!(trace["status"], "SUCCESS");
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    host.post(&format!("/api/v1/traces/{busy}/cancel"), json!({})).await;
    assert_eq!(host.ended(&busy).await["status"], "CANCELLED");
}
