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

/// A definition of the probe that may split.
async fn agent(host: &Host, id: &str, more: serde_json::Value) {
    let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "max_retries": 0 });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, body) = host.send(reqwest::Method::PUT, &format!("/api/v1/definitions/{id}"), Some(spec)).await;
    assert!(status.is_success(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn w45_fork_bombs_are_refused_whole_and_leave_no_child() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    agent(&host, "few", json!({ "max_children": 10 })).await;
    agent(&host, "flat", json!({ "max_layers": 1 })).await;
    let wide = host.run("few", json!({ "do": "split", "n": 11 })).await;
    assert_eq!((&wide["status"], &wide["error"]["code"]), (&json!("FAILED"), &json!("SPLIT_TOO_MANY_CHILDREN")), "{wide}");
    assert_eq!(host.tasks(wide["trace_id"].as_str().unwrap()).await.len(), 1, "not even ten of them are there");
    // The probe hands over a thousand in a call: the one that is too many comes in the second.
    agent(&host, "thousand", json!({ "max_children": 1_000 })).await;
    let piecemeal = host.run("thousand", json!({ "do": "split", "n": 1_001 })).await;
    assert_eq!(piecemeal["error"]["code"], "SPLIT_TOO_MANY_CHILDREN", "{piecemeal}");
    assert_eq!(host.tasks(piecemeal["trace_id"].as_str().unwrap()).await.len(), 1, "the first call's children are not there either");
    let deep = host.run("flat", json!({ "do": "tree", "width": 2, "depth": 3 })).await;
    let tasks = host.all(&format!("/api/v1/traces/{}/tasks", deep["trace_id"].as_str().unwrap())).await;
    assert_eq!(tasks.len(), 3, "the root's two children, and none of theirs");
    assert!(tasks.iter().filter(|task| task["layer"] == 1).all(|task| task["error_code"] == "SPLIT_NOT_ALLOWED"), "{tasks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn w46_children_that_wait_for_themselves_are_refused() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let child = |key: &str, after: &[&str]| json!({ "key": key, "definition": "probe-exec", "after": after });
    for (what, children, code) in [
        ("itself", json!([child("a", &["a"])]), "SPLIT_CYCLE"),
        ("in a circle", json!([child("a", &["b"]), child("b", &["c"]), child("c", &["a"])]), "SPLIT_CYCLE"),
        ("nobody", json!([child("a", &["ghost"])]), "SPLIT_UNKNOWN_DEPENDENCY"),
    ] {
        let trace = host.run("probe", json!({ "do": "children", "children": children })).await;
        assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!(code)), "{what}: {trace}");
        assert_eq!(host.tasks(trace["trace_id"].as_str().unwrap()).await.len(), 1, "{what}: nothing is registered");
    }
    let twice = json!([child("a", &[]), child("b", &["a", "a"])]);
    let trace = host.run("probe", json!({ "do": "children", "children": twice })).await;
    assert_eq!(trace["status"], "SUCCESS", "an edge that is named twice is one edge: {trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn w48_one_key_is_one_child_and_what_failed_leaves_none() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let child = |value: u32| json!({ "key": "a", "definition": "probe-exec", "params": { "do": "echo", "value": value } });
    let same = host.run("probe", json!({ "do": "children", "children": [child(1), child(1)] })).await;
    assert_eq!((&same["status"], host.tasks(same["trace_id"].as_str().unwrap()).await.len()), (&json!("SUCCESS"), 2), "{same}");
    let other = host.run("probe", json!({ "do": "children", "children": [child(1), child(2)] })).await;
    assert_eq!((&other["error"]["code"], host.tasks(other["trace_id"].as_str().unwrap()).await.len()), (&json!("SPLIT_DUPLICATE_KEY"), 1), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn w51_aggregators_that_fail_loop_or_go_on_splitting_do_not_take_their_children_with_them() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    agent(&host, "brief", json!({ "timeout_sec": 1 })).await;
    let children = json!({ "do": "echo", "value": 1 });
    let split = |fold: serde_json::Value| json!({ "do": "split", "n": 3, "params": children, "fold": fold });
    for (definition, fold, code) in [("probe", json!({ "fail": "NO_GOOD" }), "NO_GOOD"), ("brief", json!({ "pace_ms": 60_000 }), "GUEST_TIMEOUT")] {
        let trace = host.run(definition, split(fold)).await;
        assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!(code)), "{trace}");
        assert_eq!(trace["counts"]["success"], 3, "the children's results stay: {trace}");
    }
    agent(&host, "bounded", json!({ "max_children": 5 })).await;
    let trace = host.run("bounded", split(json!({ "phases": 1_000 }))).await;
    assert_eq!((&trace["status"], &trace["error"]["code"]), (&json!("FAILED"), &json!("SPLIT_TOO_MANY_CHILDREN")), "phases count together: {trace}");
}

#[tokio::test(flavor = "multi_thread")]
async fn w31_a_crowd_of_hostile_steps_does_not_keep_others_from_ending() {
    let host = Host::start(&["--slots", "200"]).await;
    host.install("probe").await;
    agent(&host, "slow", json!({ "timeout_sec": 20 })).await;
    let crowd = host.trigger("slow", json!({ "do": "split", "n": 100, "params": { "do": "loop" } })).await;
    let running = |body: &serde_json::Value| (body["counts"]["running"].as_u64()? > 90).then_some(());
    host.until("the crowd to run", &format!("/api/v1/traces/{crowd}"), running).await;
    let other = host.run("probe", json!({ "do": "split", "n": 20, "params": { "do": "echo", "value": 1 } })).await;
    assert_eq!(other["status"], "SUCCESS", "{other}");
    let still = host.get(&format!("/api/v1/traces/{crowd}")).await;
    assert!(still["counts"]["running"].as_u64().unwrap() > 90, "while the crowd still ran: {still}");
    host.post(&format!("/api/v1/traces/{crowd}/cancel"), json!({})).await;
    assert_eq!(host.ended(&crowd).await["status"], "CANCELLED");
}

/// What the process holds in memory, in KiB.
fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn w09_memory_that_steps_took_comes_back() {
    let host = Host::start(&["--slots", "4"]).await;
    host.install("probe").await;
    let greedy = json!({ "do": "split", "n": 12, "params": { "do": "grow", "catch": true } });
    host.run("probe", greedy.clone()).await;
    let after_some = resident_kib(host.pid());
    for _ in 0..4 {
        host.run("probe", greedy.clone()).await;
    }
    let after_many = resident_kib(host.pid());
    assert!(after_many < after_some + 48 * 1024, "48 steps more with 64 MiB each: {after_some} KiB before, {after_many} KiB after");
}
