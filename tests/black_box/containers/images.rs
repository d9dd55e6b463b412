//! Where images come from: a registry of the tests' own, one that is not there, and the example's own script.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as Part, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower_test_docker::{Engine, IMAGE};

use super::{code, define, tower};
use crate::host::{self, Host, repository};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a registry has, by digest, and what its one tag points at.
#[derive(Default)]
struct Shelf {
    blobs: HashMap<String, (String, Vec<u8>)>,
    tag: String,
    /// Manifests that were asked for.
    asked: usize,
}

/// A registry that one may only pull from, of as much as the engine asks for.
async fn registry() -> (String, Arc<Mutex<Shelf>>) {
    let shelf = Arc::new(Mutex::new(Shelf::default()));
    let manifest = async |State(shelf): State<Arc<Mutex<Shelf>>>, Part((_, reference)): Part<(String, String)>| {
        let mut shelf = shelf.lock();
        shelf.asked += 1;
        let digest = if reference.starts_with("sha256:") { reference } else { shelf.tag.clone() };
        answer(&shelf, &digest)
    };
    let blob = async |State(shelf): State<Arc<Mutex<Shelf>>>, Part((_, digest)): Part<(String, String)>| answer(&shelf.lock(), &digest);
    let router = Router::new()
        .route("/v2/", get(async || "{}"))
        .route("/v2/{name}/manifests/{reference}", get(manifest))
        .route("/v2/{name}/blobs/{digest}", get(blob))
        .with_state(shelf.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, shelf)
}

fn answer(shelf: &Shelf, digest: &str) -> Response {
    match shelf.blobs.get(digest) {
        None => (StatusCode::NOT_FOUND, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#).into_response(),
        Some((kind, bytes)) => {
            ([(header::CONTENT_TYPE, kind.clone()), ("docker-content-digest".parse().unwrap(), digest.to_owned())], bytes.clone()).into_response()
        }
    }
}

/// Puts an image of the engine on the shelf, and points the tag at it.
fn publish(engine: &Engine, image: &str, shelf: &Mutex<Shelf>) {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("image.tar");
    engine.ask(&["save", "-o", saved.to_str().unwrap(), image]);
    assert!(Command::new("tar").arg("-xf").arg(&saved).arg("-C").arg(folder.path()).status().unwrap().success());
    // Engines write this file whatever else they write beside it.
    let listed: Value = serde_json::from_slice(&std::fs::read(folder.path().join("manifest.json")).unwrap()).unwrap();
    let mut shelf = shelf.lock();
    let mut put = |kind: &str, bytes: Vec<u8>| {
        let (digest, size) = (tower_executors::wasm::digest(&bytes).to_string(), bytes.len());
        shelf.blobs.insert(digest.clone(), (kind.to_owned(), bytes));
        json!({ "mediaType": kind, "digest": digest, "size": size })
    };
    let file = |name: &Value| std::fs::read(folder.path().join(name.as_str().unwrap())).unwrap();
    let config = put("application/vnd.docker.container.image.v1+json", file(&listed[0]["Config"]));
    let layers: Vec<Value> =
        listed[0]["Layers"].as_array().unwrap().iter().map(|layer| put("application/vnd.docker.image.rootfs.diff.tar.gzip", file(layer))).collect();
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    let described = put(MANIFEST, serde_json::to_vec(&manifest).unwrap());
    shelf.tag = described["digest"].as_str().unwrap().to_owned();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_fetched_when_it_is_missing_or_always() {
    let engine = Engine::shared();
    let (address, shelf) = registry().await;
    publish(engine, IMAGE, &shelf);
    let image = format!("{address}/fetched:v1");
    let host = tower(&[]).await;
    let asked = || std::mem::take(&mut shelf.lock().asked);
    for pull in ["MISSING", "ALWAYS"] {
        // An engine tries TLS first; a connection that is reset over it may cost an attempt.
        let spec = json!({ "code_ref": format!("docker://{image}"), "max_retries": 2, "container": { "pull": pull } });
        define(&host, &pull.to_lowercase(), spec).await;
    }
    for (pull, is_asked) in [("MISSING", true), ("MISSING", false), ("ALWAYS", true), ("ALWAYS", true)] {
        let trace = host.run(&pull.to_lowercase(), json!({ "do": "echo", "x": 1 })).await;
        assert_eq!((&trace["status"], &trace["output"]["params"]["x"]), (&json!("SUCCESS"), &json!(1)), "{pull}: {trace}");
        assert_eq!(asked() > 0, is_asked, "{pull} of {image}: {trace}");
    }
    let first = shelf.lock().tag.clone();
    assert!(ran_as(&host, "always").await.contains(&first), "the content that it runs is in the log");
    // The tag moves: whoever always fetches runs what it points at from then on, and so does everybody after that.
    engine.import("tower-test/second:latest", &["--change", "ENTRYPOINT [\"/container-step\"]", "--change", "LABEL second=yes"], &saved_root(engine));
    publish(engine, "tower-test/second:latest", &shelf);
    assert_ne!(shelf.lock().tag, first);
    let second = shelf.lock().tag.clone();
    assert!(ran_as(&host, "missing").await.contains(&first), "it has one");
    assert!(ran_as(&host, "always").await.contains(&second));
    assert!(ran_as(&host, "missing").await.contains(&second));
    // A registry that has no such image says so, and that ends the task.
    define(&host, "other", json!({ "code_ref": format!("docker://{address}/fetched@sha256:{}", "0".repeat(64)), "max_retries": 3 })).await;
    let trace = host.run("other", json!({})).await;
    assert_eq!(code(&trace), "IMAGE_MISSING", "{trace}");
}

/// What a step's log says about the image that it runs.
async fn ran_as(host: &Host, definition: &str) -> String {
    let ran = host.run(definition, json!({ "do": "echo" })).await;
    let logs = host.get(&format!("/api/v1/tasks/{}/logs", ran["root_task_id"].as_str().unwrap())).await;
    let said = logs["items"].as_array().unwrap().iter().filter_map(|line| line["message"].as_str()).find(|line| line.starts_with("runs "));
    said.unwrap_or_else(|| panic!("{logs}")).to_owned()
}

/// The files of the example's image.
fn saved_root(engine: &Engine) -> Vec<u8> {
    let name = format!("files-{}", std::process::id());
    engine.ask(&["create", "--network", "none", "--name", &name, IMAGE]);
    let exported = engine.docker(&["export", &name]).output().unwrap();
    engine.ask(&["rm", &name]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    exported.stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_named_and_what_is_here_is_no_way_out() {
    let engine = Engine::shared();
    // A port that nobody listens at, and that nobody else is given meanwhile.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let image = format!("{}/step:v1", taken.local_addr().unwrap());
    engine.ask(&["tag", IMAGE, &image]);
    let host = tower(&[]).await;
    for pull in ["MISSING", "ALWAYS"] {
        define(&host, &pull.to_lowercase(), json!({ "code_ref": format!("docker://{image}"), "max_retries": 1, "container": { "pull": pull } })).await;
    }
    assert_eq!(host.run("missing", json!({ "do": "echo" })).await["status"], "SUCCESS", "it is here");
    let trace = host.run("always", json!({ "do": "echo" })).await;
    assert_eq!((&trace["status"], code(&trace)), (&json!("FAILED"), "IMAGE_PULL_FAILED"), "{trace}");
    let message = trace["error"]["message"].as_str().unwrap();
    assert!(message.contains(&image) && message.contains("refused"), "which image, and what was wrong with its registry: {message}");
    let root = host.get(&format!("/api/v1/tasks/{}", trace["root_task_id"].as_str().unwrap())).await;
    assert_eq!(root["attempts"].as_array().unwrap().len(), 2, "it may be back: {root}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_file_is_applied_as_its_readme_says() {
    let host = tower(&[]).await;
    for action in ["created", "unchanged"] {
        let applied = host::tower().args(["--url", &host.url, "--json", "apply", "-f"]).arg(repository().join("examples/container-step")).output().unwrap();
        assert!(applied.status.success(), "{applied:?}");
        let changes: Value = serde_json::from_slice(&applied.stdout).unwrap();
        let made: Vec<_> = changes.as_array().unwrap().iter().map(|change| (change["name"].as_str().unwrap(), change["action"].as_str().unwrap())).collect();
        assert_eq!(made, [("container-step", action), ("container-service", action)], "{changes}");
    }
    for definition in ["container-step", "container-service"] {
        let trace = host.run(definition, json!({ "do": "echo", "x": 1 })).await;
        assert_eq!((&trace["status"], &trace["output"]["params"]["x"]), (&json!("SUCCESS"), &json!(1)), "{definition}: {trace}");
    }
}
