//! A tower with code of one kind behind its definitions.

use std::sync::Arc;

use axum::routing::post;
use axum::{Json, Router};
use command_tower_worker::{Handed, Worker, work_on};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use tower_test_docker::{Engine, PROBE};
use tower_test_probe::probe;

use crate::host::Host;

/// What runs the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The example `probe`, in the host's process.
    Component,
    /// A worker that fetches steps.
    Queue,
    /// A worker that is called, and answers later.
    Http,
    /// A container for each step.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "the tests' engine needs Linux"))]
    Container,
}

/// Ends with the test.
pub(super) struct Ends<T>(JoinHandle<T>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A tower and its workers.
pub(super) struct World {
    pub(super) host: Host,
    kind: Kind,
    url: String,
    _server: Option<Ends<()>>,
    worker: Option<(Ends<()>, oneshot::Sender<()>)>,
}

/// A worker that is called; answers its address.
pub(super) async fn called() -> (String, Ends<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let take = |Json(handed): Json<Handed>| async {
        tokio::spawn(work_on(handed, probe));
        axum::http::StatusCode::ACCEPTED
    };
    let router = Router::new().route("/steps", post(take));
    (url, Ends(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })))
}

impl World {
    pub(super) async fn start(kind: Kind, args: &[&str]) -> Self {
        let (url, server) = called().await;
        let docker = match kind {
            Kind::Container => format!("unix://{}", Engine::with_probe().socket().display()),
            Kind::Component | Kind::Queue | Kind::Http => "off".to_owned(),
        };
        let mut all = vec!["--worker-url", &url, "--docker", &docker];
        all.extend(args);
        let host = Host::start(&all).await;
        host.install("probe").await;
        let mut world = Self { host, kind, url, _server: Some(server), worker: None };
        world.hire();
        world
    }

    /// Sets a worker to work that fetches steps, where there is need of one.
    pub(super) fn hire(&mut self) {
        if self.kind != Kind::Queue {
            return;
        }
        let worker = Worker::new(&self.host.url, "probes").name("one").concurrency(8);
        let (stop, stopped) = oneshot::channel::<()>();
        let working = tokio::spawn(async move {
            // A tower that was killed is asked in vain; that is none of the test's business.
            let _ = worker.run(stopped, probe).await;
        });
        self.worker = Some((Ends(working), stop));
    }

    fn code(&self) -> String {
        match self.kind {
            Kind::Component => "wasm://probe".to_owned(),
            Kind::Queue => "worker://probes".to_owned(),
            Kind::Http => format!("{}/steps", self.url),
            Kind::Container => format!("docker://{PROBE}"),
        }
    }

    /// Puts a definition of the code under test.
    pub(super) async fn put(&self, id: &str, fields: Value) {
        let mut spec =
            json!({ "actor_type": "AGENT", "code_ref": self.code(), "retry": { "initial_sec": 0.05, "factor": 1.0, "max_sec": 0.05, "jitter": false } });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, body) = self.host.send(Method::PUT, &format!("/api/v1/definitions/{id}"), Some(spec)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
    }

    /// The root task of a trace.
    pub(super) async fn root(&self, trace: &str) -> Value {
        let root = self.host.get(&format!("/api/v1/traces/{trace}")).await["root_task_id"].as_str().unwrap().to_owned();
        self.host.get(&format!("/api/v1/tasks/{root}")).await
    }

    /// Waits until the root's step runs: a container as well, which takes a while to be made.
    pub(super) async fn runs(&self, trace: &str) {
        let path = format!("/api/v1/traces/{trace}/tasks");
        self.host.until("the step to run", &path, |page| (page["items"][0]["phase"] == "EXECUTING").then_some(())).await;
        if self.kind == Kind::Container {
            let task = self.root(trace).await["id"].clone();
            let is_its = |item: &Value| item["task_id"] == task && item["state"] == "running";
            self.host.until("its container", "/api/v1/containers", |list| list["items"].as_array()?.iter().any(is_its).then_some(())).await;
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }
}

/// A worker that is called and does what it is told with what it gets.
pub(super) async fn called_by(handle: impl Fn(Value) -> (StatusCode, Value) + Send + Sync + 'static) -> (String, Ends<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let handle = Arc::new(handle);
    let take = move |Json(handed): Json<Value>| {
        let handle = handle.clone();
        async move {
            let (status, body) = handle(handed);
            (axum::http::StatusCode::from_u16(status.as_u16()).unwrap(), Json(body))
        }
    };
    let router = Router::new().route("/steps", post(take));
    (url, Ends(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })))
}
