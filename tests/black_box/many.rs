//! Several hosts on one PostgreSQL, as their users see them.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tower_test_postgres::{Cluster, Options, Stop};

use crate::host::{Host, tower};

/// So many hosts on one database, with leases that end soon.
async fn hosts(count: usize, args: &[&str]) -> Vec<Host> {
    let mut hosts = vec![Host::on_postgres(args).await];
    while hosts.len() < count {
        hosts.push(Host::beside(&hosts[0], args).await);
    }
    hosts
}

/// Who ran the tasks of a trace: the hosts that attempts are kept of, and those that hold claims.
async fn ran_on(host: &Host, trace: &str) -> HashSet<String> {
    let mut names = HashSet::new();
    for (_, task) in host.tasks(trace).await {
        let task = host.get(&format!("/api/v1/tasks/{}", task["id"].as_str().unwrap())).await;
        names.extend(task["lease_owner"].as_str().map(str::to_owned));
        names.extend(task["attempts"].as_array().unwrap().iter().map(|attempt| attempt["host"].as_str().unwrap().to_owned()));
    }
    names
}

async fn name_of(host: &Host) -> String {
    let hosts = host.get("/api/v1/hosts").await;
    let this = hosts["items"].as_array().unwrap().iter().find(|host| host["this"] == true).unwrap();
    this["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_on_one_host_runs_on_all_and_is_seen_from_all() {
    let hosts = hosts(3, &["--slots", "2"]).await;
    hosts[0].install("probe").await;
    let known = hosts[1].get("/api/v1/hosts").await;
    assert_eq!(known["items"].as_array().unwrap().iter().filter(|host| host["alive"] == true).count(), 3, "{known}");
    // Asked of one, watched on another, waited for on the third.
    let trace = hosts[0].trigger("probe", json!({ "do": "split", "n": 18, "params": { "do": "nap_in_host", "ms": 1000 } })).await;
    let stream = hosts[1].request(Method::GET, &format!("/api/v1/traces/{trace}/events")).header("accept", "text/event-stream").send().await.unwrap();
    let watch = tokio::spawn(async move {
        let mut body = stream.bytes_stream();
        let mut text = String::new();
        while let Some(Ok(chunk)) = body.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
        text
    });
    // While it runs, claims of several hosts are seen.
    let tasks = format!("/api/v1/traces/{trace}/tasks?phase=EXECUTING&limit=500");
    let owners =
        |page: &Value| page["items"].as_array().unwrap().iter().filter_map(|task| task["lease_owner"].as_str().map(str::to_owned)).collect::<HashSet<_>>();
    hosts[2].until("all three to work", &tasks, |page| (owners(page).len() == 3).then_some(())).await;
    let ended = hosts[2].ended(&trace).await;
    assert_eq!((&ended["status"], &ended["counts"]["success"]), (&json!("SUCCESS"), &json!(19)), "{ended}");
    let text = tokio::time::timeout(Duration::from_secs(30), watch).await.expect("the stream ends").unwrap();
    assert_eq!(text.matches("\"event_type\":\"COMPLETED\"").count(), 19, "every event, on a host that did not make them all");
    assert!(text.contains("event: end"), "{text}");
    // Claims that had to wait may have been given back, which is no attempt.
    let tasks = hosts[0].all(&format!("/api/v1/traces/{trace}/tasks")).await;
    assert!(tasks.len() == 19 && tasks.iter().all(|task| task["attempt"] == 1), "none ran again: {tasks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_reaches_the_host_that_runs_the_step() {
    let hosts = hosts(2, &["--cancel-grace", "100ms"]).await;
    hosts[0].install("probe").await;
    let first = name_of(&hosts[0]).await;
    hosts[1].post(&format!("/api/v1/hosts/{first}/drain"), json!({})).await;
    hosts[0].until_status(503, "/readyz").await;
    let trace = hosts[0].trigger("probe", json!({ "do": "spin" })).await;
    let path = format!("/api/v1/traces/{trace}");
    hosts[0].until("it to run", &path, |trace| (trace["counts"]["running"] == 1).then_some(())).await;
    assert_eq!(ran_on(&hosts[0], &trace).await, HashSet::from([name_of(&hosts[1]).await]), "a drained host takes nothing");
    hosts[0].post(&format!("{path}/cancel"), json!({})).await;
    assert_eq!(hosts[0].ended(&trace).await["status"], "CANCELLED");
    // From the command line, and back again.
    let output = tower().args(["--url", &hosts[1].url, "hosts"]).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.lines().any(|line| line.starts_with(&first) && line.contains("draining")), "{shown}");
    assert!(tower().args(["--url", &hosts[1].url, "hosts", "resume", &first]).status().unwrap().success());
    hosts[0].until_status(200, "/readyz").await;
    let (status, body) = hosts[0].send(Method::POST, "/api/v1/hosts/nobody/drain", None).await;
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("NO_SUCH_HOST")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_hosts_tasks_are_taken_over_and_a_second_with_its_folder_is_refused() {
    let mut hosts = hosts(2, &["--lease", "2s", "--slots", "4"]).await;
    hosts[0].install("probe").await;
    let trace = hosts[0].trigger("probe", json!({ "do": "split", "n": 8, "params": { "do": "nap_in_host", "ms": 1500 } })).await;
    let path = format!("/api/v1/traces/{trace}");
    hosts[1].until("both to work", &path, |trace| (trace["counts"]["running"].as_u64()? == 9).then_some(())).await;
    let output = tower()
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&hosts[0].data)
        .args(["--database", &hosts[0].database.as_ref().unwrap().url()])
        .output();
    let output = output.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("error[IN_USE]") && told.contains("each host needs one of its own"), "{told}");
    let name = name_of(&hosts[0]).await;
    hosts[0].kill_9().await;
    let ended = hosts[1].ended(&trace).await;
    assert_eq!((&ended["status"], &ended["counts"]["success"]), (&json!("SUCCESS"), &json!(9)), "{ended}");
    let lost = hosts[1].until("it to be lost", "/api/v1/hosts", |page| page["items"].as_array()?.iter().find(|host| host["alive"] == false).cloned()).await;
    assert_eq!(lost["id"], name);
    // It comes back under its name.
    hosts[0].restart().await;
    assert_eq!(name_of(&hosts[0]).await, name);
    assert_eq!(hosts[0].run("probe", json!({ "do": "echo" })).await["status"], "SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_known_to_all_and_a_definition_is_the_newest_on_all() {
    let hosts = hosts(2, &[]).await;
    hosts[0].install("probe").await;
    let ask = |host: &Host| {
        host.request(Method::POST, "/api/v1/traces")
            .header("idempotency-key", "once")
            .json(&json!({ "definition": "probe", "params": { "do": "echo" } }))
            .send()
    };
    let (one, other) = tokio::join!(ask(&hosts[0]), ask(&hosts[1]));
    let (one, other): (Value, Value) = (one.unwrap().json().await.unwrap(), other.unwrap().json().await.unwrap());
    assert_eq!(one["trace_id"], other["trace_id"], "{one} {other}");
    for version in 2..6 {
        let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "description": format!("{version}") });
        let (status, put) = hosts[version % 2].send(Method::PUT, "/api/v1/definitions/probe", Some(spec)).await;
        assert!(status.is_success(), "{put}");
        hosts[(version + 1) % 2].until("the other to know", "/api/v1/definitions/probe", |found| (found["version"] == put["version"]).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_is_named_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    for (url, code, hint) in [("postgres://ada:secret@127.0.0.1:1/tower", 6, "error[NO_DATABASE]"), ("mysql://ada:secret@localhost/tower", 2, "--database")] {
        let output = tower()
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.path())
            .args(["--database", url, "--database-wait", "0"])
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && told.contains(hint) && !told.contains("secret"), "{:?}: {told}", output.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_one_host_is_sent_is_ready_on_the_others_before_they_need_it() {
    let hosts = hosts(2, &[]).await;
    hosts[0].install("probe").await;
    // The host that runs nothing compiles it, and keeps what came of it in a folder of that of its images.
    let images = || {
        let folders = std::fs::read_dir(hosts[1].data.join("images")).into_iter().flatten().flatten();
        folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok()).flatten().flatten().count()
    };
    let begin = std::time::Instant::now();
    while images() == 0 {
        assert!(begin.elapsed() < Duration::from_secs(90), "the other host made nothing ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(hosts[0].get("/api/v1/traces").await["items"], json!([]), "nothing has run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_up_yet_is_waited_for() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let database = std::sync::Arc::new(cluster.database());
    cluster.stop(Stop::Fast);
    let mut host = Host::on_postgres_stopped(&["--database-wait", "60s"]);
    host.database = Some(database.clone());
    host.variables = vec![("TOWER_LOG", "info".to_owned())];
    let log = host.data.parent().unwrap().join("log");
    host.prefix = ["bash", "-c", &format!("exec \"$0\" \"$@\" 2>{}", log.display())].map(str::to_owned).to_vec();
    let later = tokio::task::spawn_blocking(move || {
        let begin = std::time::Instant::now();
        while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("--database-wait")) {
            assert!(begin.elapsed() < Duration::from_secs(60), "it says that it waits");
            std::thread::sleep(Duration::from_millis(20));
        }
        cluster.begin();
    });
    host.restart().await;
    later.await.unwrap();
    host.until_status(200, "/readyz").await;
    // One that is not there is not waited for.
    let folder = tempfile::tempdir().unwrap();
    let begin = std::time::Instant::now();
    let none = cluster.url("no_such_database");
    let output = tower().args(["serve", "--listen", "127.0.0.1:0", "--database", &none, "--database-wait", "1h", "--data-dir"]).arg(folder.path()).output();
    let told = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(told.contains("createdb no_such_database") && begin.elapsed() < Duration::from_secs(60), "{told}");
}
