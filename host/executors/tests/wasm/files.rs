//! The workspace: read-only, and nothing outside of it.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tower_domain::id::SessionId;
use tower_domain::name::Name;
use tower_domain::session::{StepSession, WorkspaceAccess};
use tower_domain::step::Executor;
use tower_executors::wasm::WasmConfig;

use crate::bench::{Bench, config, fatal, on_time, output, probe, retryable, step, timed};

struct Workspace {
    bench: Bench,
    folder: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("data.txt"), "hello").unwrap();
        std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
        symlink(folder.path().join("secret.txt"), inside.join("absolute")).unwrap();
        symlink("../secret.txt", inside.join("relative")).unwrap();
        symlink("..", inside.join("up")).unwrap();
        let mounts = BTreeMap::from([(Name::new("data").unwrap(), inside)]);
        Self { bench: Bench::with(WasmConfig { mounts, ..config() }), folder }
    }

    async fn with_grant(&self, params: Value) -> Value {
        let step = self.bench.probe(params).await.spec("capabilities", json!({ "workspace": "data" }));
        output(self.bench.run(step).await)
    }
}

#[tokio::test]
async fn a_granted_workspace_can_be_read() {
    let workspace = Workspace::new();
    let read = workspace.with_grant(json!({ "do": "read", "path": "/workspace/data.txt" })).await;
    assert_eq!(read["text"], "hello");
    let listed = workspace.with_grant(json!({ "do": "list", "path": "/workspace" })).await;
    assert_eq!(listed["entries"], json!(["absolute", "data.txt", "relative", "up"]));
}

#[tokio::test]
async fn nothing_outside_of_the_workspace_can_be_read() {
    let workspace = Workspace::new();
    for path in
        ["/workspace/../secret.txt", "/workspace/absolute", "/workspace/relative", "/workspace/up/secret.txt", "/etc/passwd", "../secret.txt", "secret.txt"]
    {
        let read = workspace.with_grant(json!({ "do": "read", "path": path })).await;
        assert!(read.get("text").is_none() && read["error"].is_string(), "{path}: {read}");
    }
}

#[tokio::test]
async fn nothing_in_the_workspace_can_be_changed() {
    let workspace = Workspace::new();
    for params in [
        json!({ "do": "write", "path": "/workspace/new.txt", "text": "x" }),
        json!({ "do": "write", "path": "/workspace/data.txt", "text": "x" }),
        json!({ "do": "remove", "path": "/workspace/data.txt" }),
    ] {
        let tried = workspace.with_grant(params.clone()).await;
        assert!(tried["error"].is_string(), "{params}: {tried}");
    }
    assert_eq!(std::fs::read_to_string(workspace.folder.path().join("inside/data.txt")).unwrap(), "hello");
    assert!(!workspace.folder.path().join("inside/new.txt").exists());
}

#[tokio::test]
async fn w05_a_step_that_waits_for_a_pipe_in_the_workspace_ends_on_time() {
    let workspace = Workspace::new();
    let pipe = workspace.folder.path().join("inside/pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let step = workspace.bench.probe(json!({ "do": "read", "path": "/workspace/pipe" })).await;
    let step = step.spec("capabilities", json!({ "workspace": "data" })).timeout_ms(150);
    let (end, took) = timed(workspace.bench.run(step)).await;
    assert_eq!(retryable(end).0, "GUEST_TIMEOUT");
    on_time(took, 150);
}

#[tokio::test]
async fn without_a_grant_there_are_no_files() {
    let workspace = Workspace::new();
    for path in ["/workspace/data.txt", "/etc/passwd", "."] {
        let step = workspace.bench.probe(json!({ "do": "read", "path": path })).await;
        let read = output(workspace.bench.run(step).await);
        assert!(read["error"].is_string(), "{path}: {read}");
    }
}

#[tokio::test]
async fn a_workspace_that_the_host_does_not_declare_is_named_with_the_flag() {
    let workspace = Workspace::new();
    let step = step(&workspace.bench.put(probe()), json!({ "do": "echo" })).spec("capabilities", json!({ "workspace": "other" })).build();
    let problem = workspace.bench.executor.check(&step.definition.spec).await.unwrap_err();
    assert!(problem.code == "WORKSPACE_UNKNOWN" && problem.message.contains("--mount other=DIR"), "{problem:?}");
    let host = std::sync::Arc::new(crate::bench::FakeHost::new());
    assert_eq!(fatal(workspace.bench.executor.run(step, host).await).0, "WORKSPACE_UNKNOWN");
}

#[tokio::test]
async fn a_definition_that_asks_for_more_memory_than_the_host_gives_is_told() {
    let bench = Bench::with(WasmConfig { memory_bytes_max: 128 << 20, ..config() });
    let step = step(&bench.put(probe()), json!({})).spec("resource_profile", json!({ "memory_bytes": 256 << 20 })).build();
    assert_eq!(bench.executor.check(&step.definition.spec).await.unwrap_err().code, "MEMORY_TOO_LARGE");
}

#[tokio::test]
async fn a_sessions_workspace_is_seen_as_far_as_it_is_granted_and_not_left() {
    let workspace = Workspace::new();
    let inside = workspace.folder.path().join("inside");
    let run = async |access: WorkspaceAccess, params: Value| {
        let mut step = workspace.bench.probe(params).await.spec("capabilities", json!({ "session": access }));
        step.step.session =
            Some(StepSession { id: SessionId::from_bytes([7; 16]), user_id: "ada".to_owned(), sdk_session_id: None, workspace: inside.clone(), access });
        output(workspace.bench.run(step).await)
    };
    let write = |path: &str| json!({ "do": "write", "path": path, "text": "mine" });
    assert!(run(WorkspaceAccess::Read, write("/workspace/new.txt")).await["error"].is_string());
    assert_eq!(run(WorkspaceAccess::Read, json!({ "do": "read", "path": "/workspace/data.txt" })).await["text"], "hello");
    assert!(run(WorkspaceAccess::ReadWrite, write("/workspace/new.txt")).await.get("error").is_none());
    assert_eq!(std::fs::read_to_string(inside.join("new.txt")).unwrap(), "mine");
    for path in ["/workspace/../secret.txt", "/workspace/absolute", "/workspace/relative", "/workspace/up/secret.txt", "/workspace/up/new.txt"] {
        let tried = run(WorkspaceAccess::ReadWrite, write(path)).await;
        assert!(tried["error"].is_string(), "{path}: {tried}");
        let read = run(WorkspaceAccess::ReadWrite, json!({ "do": "read", "path": path })).await;
        assert!(read.get("text").is_none(), "{path}: {read}");
    }
    assert_eq!(std::fs::read_to_string(workspace.folder.path().join("secret.txt")).unwrap(), "secret");
    assert!(!workspace.folder.path().join("new.txt").exists());
}
