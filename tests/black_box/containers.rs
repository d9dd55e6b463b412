//! Steps in containers, on a Docker Engine of the tests' own: what they can do, what they are held to, and what is left of them.

mod ends;
mod engine;
mod grants;
mod hardening;
mod images;
mod orphans;
mod pools;
mod sessions;
mod workspaces;

use serde_json::{Value, json};
use tower_test_docker::{Engine, IMAGE};

use crate::host::Host;

/// A tower that runs containers on the tests' engine.
async fn tower(args: &[&str]) -> Host {
    tower_on(Engine::shared(), args).await
}

async fn tower_on(engine: &Engine, args: &[&str]) -> Host {
    let docker = format!("unix://{}", engine.socket().display());
    let args: Vec<&str> = ["--docker", &docker].into_iter().chain(args.iter().copied()).collect();
    Host::start(&args).await
}

/// Puts a definition of the example's image. `fields` are laid over what is usual.
async fn define(host: &Host, id: &str, fields: Value) {
    let mut spec = json!({
        "actor_type": "AGENT",
        "code_ref": format!("docker://{IMAGE}"),
        "timeout_sec": 60,
        "max_retries": 0,
        "retry": { "initial_sec": 0.1, "factor": 1.0, "max_sec": 0.1, "jitter": false },
    });
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let (status, answer) = host.send(reqwest::Method::PUT, &format!("/api/v1/definitions/{id}"), Some(spec)).await;
    assert!(status.is_success(), "{status}: {answer}");
}

/// What the owner of a tower's containers is called.
fn owner(host: &Host) -> String {
    std::fs::read_to_string(host.data.join("containers-owner")).unwrap().trim().to_owned()
}

/// Waits until a tower has just these many containers, whether they run or not.
async fn until_containers(host: &Host, count: usize) -> Vec<String> {
    let begun = std::time::Instant::now();
    loop {
        let names = Engine::shared().containers(&owner(host));
        if names.len() == count {
            return names;
        }
        assert!(begun.elapsed().as_secs() < 60, "{count} containers are expected, and there are {names:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn code(trace: &Value) -> &str {
    trace["error"]["code"].as_str().unwrap_or_else(|| panic!("{trace}"))
}
