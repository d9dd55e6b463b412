//! The engine itself: away, killed, hanging, back.

use serde_json::{Value, json};
use tower_test_docker::Engine;

use super::ends::log;
use super::{code, define, tower_on};
use crate::host::Host;

#[tokio::test(flavor = "multi_thread")]
async fn without_an_engine_containers_are_refused_with_the_remedy() {
    for (docker, said) in [("off", "--docker off"), ("auto", "does not answer")] {
        let host = Host::start(&["--docker", docker]).await;
        let spec = json!({ "actor_type": "AGENT", "code_ref": "docker://x" });
        let (status, problem) = host.send(reqwest::Method::PUT, "/api/v1/definitions/x", Some(spec)).await;
        // The machine that runs the tests may have an engine.
        if docker == "off" || status.as_u16() == 503 {
            assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("EXECUTOR_UNAVAILABLE")), "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
        }
    }
    let refused = Host::new(&["--docker", "unix:///no/such/docker.sock"]).begin().await;
    assert!(!refused, "an engine that is named must be there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_costs_an_attempt_and_nothing_is_claimed_until_it_is_back() {
    // Its own, as others would miss it.
    let engine = Engine::start();
    engine.build_image();
    let host = tower_on(&engine, &[]).await;
    define(&host, "command", json!({ "max_retries": 1 })).await;
    let trace = host.trigger("command", json!({ "do": "sleep", "ms": 4_000 })).await;
    host.until("it to run", "/api/v1/containers", |list| (list["items"][0]["state"] == "running").then_some(())).await;
    engine.stop("KILL");
    let path = format!("/api/v1/traces/{trace}");
    let root = format!("/api/v1/tasks/{}", host.get(&path).await["root_task_id"].as_str().unwrap());
    let failed = host.until("the attempt to end", &root, |task| (task["attempts"][0]["result"].is_string()).then(|| task.clone())).await;
    assert_eq!(failed["attempts"][0]["error"]["code"], "EXECUTOR_UNAVAILABLE", "{failed}");
    // The retry is due, and waits for an engine instead of failing.
    host.until("no room", "/api/v1/executors", |list| {
        let docker = list["items"].as_array()?.iter().find(|one| one["lane"] == "docker")?;
        (docker["slots"] == 0 && docker["ready"] == 1).then_some(())
    })
    .await;
    engine.begin();
    let ended = host.ended(&trace).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("SUCCESS"), &json!("slept")), "{ended}");
    // What the dead engine left is removed, and the container that did it in the end.
    let begun = std::time::Instant::now();
    while !engine.ask(&["ps", "-aq"]).is_empty() {
        assert!(begun.elapsed().as_secs() < 60, "{}", engine.ask(&["ps", "-a"]));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_is_not_waited_for_without_an_end() {
    let engine = Engine::start();
    engine.build_image();
    let host = tower_on(&engine, &[]).await;
    define(&host, "command", json!({})).await;
    let trace = host.trigger("command", json!({ "do": "sleep", "ms": 600_000 })).await;
    host.until("it to run", "/api/v1/containers", |list| (list["items"][0]["state"] == "running").then_some(())).await;
    engine.signal("STOP");
    let ended = host.ended(&trace).await;
    assert_eq!(code(&ended), "EXECUTOR_UNAVAILABLE", "{ended}");
    engine.signal("CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_brings_after_the_answer_is_in_the_log_all_the_same() {
    let engine = Engine::start();
    engine.build_image();
    let host = tower_on(&engine, &[]).await;
    define(&host, "service", json!({ "container": { "protocol": "SERVICE", "command": ["serve"] } })).await;
    let trace = host.trigger("service", json!({ "do": "talk", "lines": 50, "ms": 2_000 })).await;
    let logs = format!("/api/v1/traces/{trace}/logs");
    let said = |what: &'static str| move |logs: &Value| logs["items"].as_array()?.iter().any(|line| line["message"] == what).then_some(());
    host.until("it to begin", &logs, said("talks soon")).await;
    engine.signal("STOP");
    host.until("it to have talked", &logs, said("has talked")).await;
    // Its answer is on its way, and the engine has brought nothing of what it wrote.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    engine.signal("CONT");
    let ended = host.ended(&trace).await;
    assert_eq!(ended["output"], "said", "{ended}");
    let lines = log(&host, &ended).await;
    assert_eq!(lines.iter().filter(|(stream, line)| stream == "STDERR" && line.starts_with("line ")).count(), 50, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_an_address_for_a_network_says_so_with_the_remedy() {
    // Room for one network, which is taken. The machine may have routes of its own to some of these.
    let pools = ["base=10.203.113.0/26,size=26", "base=172.29.113.0/26,size=26", "base=192.168.193.0/26,size=26"];
    let takes_its_only_one = |engine: &Engine| engine.docker(&["network", "create", "somebodys"]).output().unwrap().status.success();
    let engine = pools.iter().map(|pool| Engine::start_with(&[pool])).find(takes_its_only_one).unwrap();
    engine.build_image();
    let host = tower_on(&engine, &[]).await;
    define(&host, "service", json!({ "container": { "protocol": "SERVICE", "command": ["serve"] } })).await;
    let ended = host.run("service", json!({ "do": "echo" })).await;
    assert_eq!(code(&ended), "EXECUTOR_UNAVAILABLE", "{ended}");
    let message = ended["error"]["message"].as_str().unwrap();
    assert!(message.contains("docker network prune") && message.contains("default-address-pools"), "{message}");
    engine.ask(&["network", "prune", "-f"]);
    let ended = host.run("service", json!({ "do": "echo", "x": 1 })).await;
    assert_eq!((&ended["status"], &ended["output"]["params"]["x"]), (&json!("SUCCESS"), &json!(1)), "{ended}");
}
