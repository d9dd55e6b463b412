//! What a container is held to: seen by inspecting every kind, and tried from within.

use reqwest::Method;
use serde_json::{Value, json};
use tower_test_docker::Engine;

use super::{code, define, owner, tower, until_containers};

/// What holds of a container, whatever its definition says.
fn assert_hardened(container: &Value, memory: u64, pids: u64) {
    let (host, config) = (&container["HostConfig"], &container["Config"]);
    for (what, value, expected) in [
        ("capabilities", &host["CapDrop"], json!(["ALL"])),
        ("no capability back", &host["CapAdd"], Value::Null),
        ("privileges", &host["SecurityOpt"], json!(["no-new-privileges:true"])),
        ("privileged", &host["Privileged"], json!(false)),
        ("root folder", &host["ReadonlyRootfs"], json!(true)),
        ("memory", &host["Memory"], json!(memory)),
        ("memory and swap", &host["MemorySwap"], json!(memory)),
        ("processors", &host["NanoCpus"], json!(1_000_000_000)),
        ("processes", &host["PidsLimit"], json!(pids)),
        ("removal", &host["AutoRemove"], json!(false)),
        ("the engine's log", &host["LogConfig"]["Type"], json!("none")),
        ("devices", &host["Devices"], Value::Null),
        ("published ports", &host["PublishAllPorts"], json!(false)),
        ("process namespace", &host["PidMode"], json!("")),
        ("host's names", &host["UTSMode"], json!("")),
        ("user", &config["User"], json!("65534:65534")),
    ] {
        let is_empty = value.as_array().is_some_and(Vec::is_empty) && expected.is_null();
        assert!(*value == expected || is_empty, "{what}: {value}, not {expected}");
    }
    let tmp = host["Tmpfs"]["/tmp"].as_str().unwrap();
    for option in ["noexec", "nosuid", "nodev", "size=16777216"] {
        assert!(tmp.contains(option), "{tmp}");
    }
    let limits: Vec<(&str, i64)> =
        host["Ulimits"].as_array().unwrap().iter().map(|one| (one["Name"].as_str().unwrap(), one["Hard"].as_i64().unwrap())).collect();
    assert!(limits.contains(&("nofile", 1024)) && limits.contains(&("core", 0)), "{limits:?}");
    let mounts = container["Mounts"].as_array().unwrap();
    let seen: Vec<(&str, &Value)> = mounts.iter().map(|mount| (mount["Destination"].as_str().unwrap(), &mount["RW"])).filter(|(to, _)| *to != "/tmp").collect();
    assert_eq!(seen, [("/run/tower", &json!(false))], "nothing of the machine but the socket's folder, and that to look at");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_container_is_made_hardened() {
    let engine = Engine::shared();
    let host = tower(&["--containers-warm", "1"]).await;
    define(&host, "command", json!({ "resource_profile": { "memory_bytes": 33_554_432 } })).await;
    let service = json!({ "protocol": "SERVICE", "command": ["serve"], "memory_bytes": 50_331_648, "pids": 20 });
    define(&host, "service", json!({ "container": service })).await;
    let mut kept = service;
    kept["mode"] = json!("PERSISTENT");
    define(&host, "kept", json!({ "container": kept })).await;
    let mut traces = Vec::new();
    for definition in ["command", "service", "kept"] {
        traces.push(host.trigger(definition, json!({ "do": "sleep", "ms": 20_000 })).await);
    }
    // One each, and one that stands ready for the service.
    let list = host
        .until("all kinds", "/api/v1/containers", |list| {
            let running = list["items"].as_array()?.iter().filter(|item| item["state"] == "running").count();
            (running == 4 && list["load"]["warm"] == 1).then(|| list.clone())
        })
        .await;
    let mut modes: Vec<&str> = list["items"].as_array().unwrap().iter().map(|item| item["container_mode"].as_str().unwrap()).collect();
    modes.sort_unstable();
    assert_eq!(modes, ["EPHEMERAL", "EPHEMERAL", "PERSISTENT", "WARM"]);
    for item in list["items"].as_array().unwrap() {
        let found: Value = serde_json::from_str(&engine.ask(&["inspect", item["name"].as_str().unwrap()])).unwrap();
        let (container, labels) = (&found[0], &found[0]["Config"]["Labels"]);
        let is_command = item["definition"] == "command@1";
        let (memory, pids) = if is_command { (33_554_432, 64) } else { (50_331_648, 20) };
        assert_hardened(container, memory, pids);
        let networks: Vec<&String> = container["NetworkSettings"]["Networks"].as_object().unwrap().keys().collect();
        let (network, ipc) = if is_command { ("none".to_owned(), "none") } else { (format!("tower-{}-inside", owner(&host)), "private") };
        assert_eq!((networks, &container["HostConfig"]["IpcMode"]), (vec![&network], &json!(ipc)));
        assert_eq!((&labels["command-tower.owner"], &labels["command-tower.container_mode"]), (&json!(owner(&host)), &item["container_mode"]));
        assert!(labels["command-tower.digest"].as_str().unwrap().starts_with("sha256:") && container["Image"] == labels["command-tower.digest"], "{labels}");
        assert_eq!((labels["command-tower.task"].is_string(), labels["command-tower.fence"].is_string()), (is_command, is_command), "{labels}");
    }
    let network: Value = serde_json::from_str(&engine.ask(&["network", "inspect", &format!("tower-{}-inside", owner(&host))])).unwrap();
    assert_eq!((&network[0]["Internal"], &network[0]["Options"]["com.docker.network.bridge.enable_icc"]), (&json!(true), &json!("false")));
    for trace in traces {
        host.post(&format!("/api/v1/traces/{trace}/cancel"), json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_container_is_held() {
    let host = tower(&[]).await;
    define(&host, "command", json!({ "resource_profile": { "memory_bytes": 33_554_432 }, "container": { "pids": 16, "tmp_bytes": 1_048_576 } })).await;
    define(&host, "service", json!({ "container": { "protocol": "SERVICE", "command": ["serve"], "memory_bytes": 33_554_432 } })).await;

    let forks = host.run("command", json!({ "do": "fork_bomb" })).await;
    assert_eq!(forks["output"]["started"], 15, "{forks}");
    assert!(forks["output"]["refused"].as_str().unwrap().contains("os error 11"), "{forks}");

    for definition in ["command", "service"] {
        let bomb = host.run(definition, json!({ "do": "memory_bomb" })).await;
        assert_eq!((&bomb["status"], code(&bomb)), (&json!("FAILED"), "CONTAINER_OOM"), "{definition}: {bomb}");
    }

    let disk = &host.run("command", json!({ "do": "disk_bomb" })).await["output"];
    let refused = |place: &str| disk[place]["refused"].as_str().unwrap_or_default().to_owned();
    assert!(refused("tmp").contains("os error 28") && disk["tmp"]["bytes"].as_u64().unwrap() <= 1_048_576, "{disk}");
    assert!(refused("root").contains("os error 30") && refused("socket_dir").contains("os error 30") && refused("shm").contains("os error 2"), "{disk}");

    let root = &host.run("command", json!({ "do": "root" })).await["output"];
    assert_eq!((&root["capabilities"], &root["seccomp"], &root["no_new_privileges"]), (&json!("0000000000000000"), &json!("2"), &json!("1")), "{root}");
    for attempt in ["became_root", "mounted", "unshared", "executed_what_it_wrote", "kernel_settings_written", "memory_of_the_machine", "engine"] {
        assert_eq!(root[attempt], false, "{attempt}: {root}");
    }

    let port = host.url.rsplit(':').next().unwrap().to_owned();
    let targets = json!(["1.1.1.1:53", "169.254.169.254:80", "172.17.0.1:80", format!("127.0.0.1:{port}")]);
    for (definition, interfaces) in [("command", json!(["lo"])), ("service", json!(["lo", "eth0"]))] {
        let network = &host.run(definition, json!({ "do": "network", "targets": targets })).await["output"];
        assert_eq!(network["reached"], json!([]), "{definition}: {network}");
        let mut found = network["interfaces"].as_array().unwrap().clone();
        found.retain(|one| interfaces.as_array().unwrap().contains(one));
        assert_eq!(found.len(), interfaces.as_array().unwrap().len(), "{definition}: {network}");
    }
    until_containers(&host, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_does_not_grant_is_refused_when_it_is_put() {
    let host = tower(&["--container-mib-max", "128"]).await;
    let put = async |container: Value| {
        let spec = json!({ "actor_type": "AGENT", "code_ref": "docker://x", "container": container });
        host.send(Method::PUT, "/api/v1/definitions/x", Some(spec)).await
    };
    for (container, flag) in [
        (json!({ "network": "OUTSIDE" }), "--container-network"),
        (json!({ "user": "0:0" }), "--container-users"),
        (json!({ "memory_bytes": 268_435_456 }), "--container-mib-max"),
        (json!({ "cpus": 8.0 }), "--container-cpus-max"),
    ] {
        let (status, problem) = put(container).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("CONTAINER_NOT_ALLOWED")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(flag), "{problem}");
    }
    let (status, problem) = put(json!({ "pull": "NEVER" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("IMAGE_MISSING")), "{problem}");
    let (status, problem) = put(json!({ "mode": "PERSISTENT" })).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!("/container/mode")), "{problem}");
    let spec = json!({ "actor_type": "AGENT", "code_ref": "worker://x", "container": {} });
    let (status, problem) = host.send(Method::PUT, "/api/v1/definitions/x", Some(spec)).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!("/container")), "{problem}");
}
