//! What an operator may allow containers beyond what all have.

use std::net::TcpListener;

use serde_json::{Value, json};
use tower_test_docker::Engine;

use super::{define, owner, tower};

#[tokio::test(flavor = "multi_thread")]
async fn a_container_with_the_outside_network_reaches_the_machine_and_no_other_container() {
    let engine = Engine::shared();
    let host = tower(&["--container-network"]).await;
    let outside = |more: Value| {
        let mut container = json!({ "network": "OUTSIDE" });
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "container": container })
    };
    define(&host, "command", outside(json!({}))).await;
    define(&host, "service", outside(json!({ "protocol": "SERVICE", "command": ["serve"] }))).await;
    define(&host, "neighbour", outside(json!({ "protocol": "SERVICE", "mode": "PERSISTENT", "command": ["serve"] }))).await;
    // It stays, and listens.
    host.run("neighbour", json!({ "do": "echo" })).await;
    let name = host.get("/api/v1/containers").await["items"][0]["name"].as_str().unwrap().to_owned();
    let inspected = |found: String| serde_json::from_str::<Value>(&found).unwrap()[0].clone();
    let network_name = format!("tower-{}-outside", owner(&host));
    let network = inspected(engine.ask(&["network", "inspect", &network_name]));
    assert_eq!((&network["Internal"], &network["Options"]["com.docker.network.bridge.enable_icc"]), (&json!(false), &json!("false")), "{network}");
    let gateway = network["IPAM"]["Config"][0]["Gateway"].as_str().unwrap();
    let machine = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let machine = format!("{gateway}:{}", machine.local_addr().unwrap().port());
    let neighbour = inspected(engine.ask(&["inspect", &name]))["NetworkSettings"]["Networks"][&network_name]["IPAddress"].as_str().unwrap().to_owned();
    let targets = json!([machine, format!("{neighbour}:8080")]);
    for definition in ["command", "service"] {
        let output = host.run(definition, json!({ "do": "network", "targets": targets })).await["output"].clone();
        assert_eq!(output["reached"], json!([machine]), "{definition}: {output}");
        assert!(output["interfaces"].as_array().unwrap().contains(&json!("eth0")), "{definition}: {output}");
    }
    // It costs nothing else of what holds of every container.
    let found = inspected(engine.ask(&["inspect", &name]));
    assert_eq!((&found["HostConfig"]["CapDrop"], &found["HostConfig"]["ReadonlyRootfs"]), (&json!(["ALL"]), &json!(true)), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_as_the_user_that_its_definition_says_and_is_no_more_for_it() {
    let host = tower(&["--container-users"]).await;
    for (user, uid) in [("1234:4321", "1234"), ("0:0", "0")] {
        for container in [json!({ "user": user }), json!({ "user": user, "protocol": "SERVICE", "command": ["serve"] })] {
            define(&host, "code", json!({ "container": container })).await;
            let output = host.run("code", json!({ "do": "root" })).await["output"].clone();
            assert_eq!(output["uid"].as_str().unwrap().split_whitespace().next(), Some(uid), "{user}: {output}");
            assert_eq!(
                (&output["capabilities"], &output["no_new_privileges"], &output["mounted"]),
                (&json!("0000000000000000"), &json!("1"), &json!(false)),
                "{output}"
            );
            for attempt in ["unshared", "executed_what_it_wrote", "kernel_settings_written", "memory_of_the_machine"] {
                assert_eq!(output[attempt], false, "{user}: {attempt}: {output}");
            }
        }
    }
}
