//! Sessions and their workspaces, over HTTP and on the command line.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::host::{Host, tower};

async fn session(host: &Host, more: Value) -> String {
    let mut body = json!({ "user_id": "ada" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, body) = host.send(Method::POST, "/api/v1/sessions", Some(body)).await;
    assert_eq!(status.as_u16(), 201, "{body}");
    body["session_id"].as_str().unwrap().to_owned()
}

/// Status and body of an upload.
async fn put(host: &Host, session: &str, path: &str, bytes: impl Into<reqwest::Body>) -> (u16, Value) {
    let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/sessions/{session}/files", host.url), [("path", path)]).unwrap();
    let answer = reqwest::Client::new().post(url).body(bytes).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

async fn get(host: &Host, session: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("{}/api/v1/sessions/{session}/files/{path}", host.url)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn delete(host: &Host, session: &str, path: &str) -> u16 {
    host.request(Method::DELETE, &format!("/api/v1/sessions/{session}/files/{path}")).send().await.unwrap().status().as_u16()
}

async fn paths(host: &Host, session: &str) -> Vec<String> {
    host.all(&format!("/api/v1/sessions/{session}/files")).await.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

/// Runs a definition in a session to its end.
async fn run(host: &Host, definition: &str, session: &str, params: Value) -> Value {
    let body = json!({ "definition": definition, "session_id": session, "params": params });
    let (status, trace) = host.send(Method::POST, "/api/v1/traces?wait=60s", Some(body)).await;
    assert_eq!(status.as_u16(), 200, "{trace}");
    trace
}

async fn probe_with(host: &Host, id: &str, access: &str) {
    let put = json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "max_retries": 0, "capabilities": { "session": access } });
    let (status, body) = host.send(Method::PUT, &format!("/api/v1/definitions/{id}"), Some(put)).await;
    assert!(status.is_success(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notebook_keeps_its_notes_from_trace_to_trace_and_over_a_restart() {
    let mut host = Host::start(&[]).await;
    host.install("notebook").await;
    let mine = session(&host, json!({})).await;
    let other = session(&host, json!({})).await;
    assert_eq!(run(&host, "notebook", &mine, json!({ "note": "one" })).await["output"], json!({ "notes": ["one"] }));
    host.kill_9().await;
    host.restart().await;
    let second = run(&host, "notebook", &mine, json!({ "note": "two" })).await;
    assert_eq!((&second["output"], &second["session_id"], &second["user_id"]), (&json!({ "notes": ["one", "two"] }), &json!(mine), &json!("ada")));
    assert_eq!(run(&host, "notebook", &other, json!({})).await["output"], json!({ "notes": [] }), "another session has another workspace");
    let (_, outside) = host.send(Method::POST, "/api/v1/traces?wait=60s", Some(json!({ "definition": "notebook" }))).await;
    assert_eq!(outside["error"]["code"], "NO_SESSION", "{outside}");
    assert_eq!(get(&host, &mine, "output/notes.txt").await, (200, "one\ntwo".to_owned()));
    let traces = host.all(&format!("/api/v1/traces?session_id={mine}")).await;
    assert_eq!(traces.len(), 2, "{traces:?}");
    let shown = host.get(&format!("/api/v1/sessions/{mine}")).await;
    assert_eq!((&shown["status"], &shown["bytes"], &shown["files"]), (&json!("ACTIVE"), &json!(7), &json!(1)), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_in_and_out_and_no_name_leads_outside() {
    let host = Host::start(&[]).await;
    let id = session(&host, json!({})).await;
    let (status, staged) = put(&host, &id, "input/a b/ü.html", "<script>").await;
    assert_eq!((status, &staged["workspace_bytes"], &staged["workspace_files"]), (201, &json!(8), &json!(2)), "{staged}");
    let answer = reqwest::get(format!("{}/api/v1/sessions/{id}/files/input/a%20b/%C3%BC.html", host.url)).await.unwrap();
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-disposition"), "attachment; filename*=UTF-8''%C3%BC.html");
    assert_eq!((header("content-type").as_str(), header("x-content-type-options").as_str()), ("application/octet-stream", "nosniff"));
    assert_eq!(answer.text().await.unwrap(), "<script>");
    assert_eq!(paths(&host, &id).await, [".skills", "input", "input/a b", "input/a b/ü.html", "output"]);
    for path in ["../x", "/etc/passwd", "input/../../x", "", "a//b", "input/\u{7}"] {
        let (status, problem) = put(&host, &id, path, "x").await;
        assert_eq!((status, &problem["code"]), (422, &json!("BAD_PATH")), "{path}: {problem}");
    }
    let (status, problem) = get(&host, &id, "%2e%2e%2f%2e%2e%2fhost-id").await;
    assert!(status == 422 && problem.contains("BAD_PATH"), "{status} {problem}");
    // What a step may leave there.
    let folder = host.data.join("workspaces/u-ada").join(&id);
    std::os::unix::fs::symlink(&host.data, folder.join("out")).unwrap();
    std::os::unix::fs::symlink(host.data.join("tower.db"), folder.join("output/db")).unwrap();
    for path in ["output/db", "out/tower.db"] {
        let (status, problem) = get(&host, &id, path).await;
        assert!(status == 422 && problem.contains("FILE_REFUSED"), "{path}: {problem}");
    }
    assert_eq!(put(&host, &id, "out/new", "x").await.1["code"], "FILE_REFUSED");
    assert!(!host.data.join("new").exists());
    assert_eq!(delete(&host, &id, "input").await, 204);
    let (status, problem) = get(&host, &id, "input/a%20b").await;
    assert!(status == 404 && problem.contains("NO_SUCH_FILE"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_sees_what_it_is_granted_of_its_session_and_no_more_than_the_quota_stays() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    probe_with(&host, "reads", "READ").await;
    probe_with(&host, "writes", "READ_WRITE").await;
    let id = session(&host, json!({ "quota_bytes": 100 })).await;
    put(&host, &id, "input/a.txt", "hello").await;
    assert_eq!(run(&host, "reads", &id, json!({ "do": "read", "path": "/workspace/input/a.txt" })).await["output"]["text"], "hello");
    let write = |path: &str, bytes: usize| json!({ "do": "write", "path": path, "text": "x".repeat(bytes) });
    let refused = run(&host, "reads", &id, write("/workspace/output/b.txt", 1)).await;
    assert!(refused["output"]["error"].is_string(), "{refused}");
    for path in ["/workspace/../x", "/workspace/../../tower.db", "/etc/x"] {
        let refused = run(&host, "writes", &id, write(path, 1)).await;
        assert!(refused["output"]["error"].is_string(), "{path}: {refused}");
    }
    assert_eq!(run(&host, "writes", &id, write("/workspace/output/b.txt", 50)).await["status"], "SUCCESS");
    let over = run(&host, "writes", &id, write("/workspace/output/c.txt", 200)).await;
    assert_eq!((&over["status"], &over["error"]["code"]), (&json!("FAILED"), &json!("WORKSPACE_QUOTA")), "{over}");
    // Until it is under again, nothing is written, and what reads goes on.
    let still = run(&host, "writes", &id, json!({ "do": "echo", "value": 1 })).await;
    assert_eq!(still["error"]["code"], "WORKSPACE_QUOTA", "{still}");
    assert_eq!(run(&host, "reads", &id, json!({ "do": "echo", "value": 1 })).await["status"], "SUCCESS");
    let (status, problem) = put(&host, &id, "input/d.txt", "x").await;
    assert_eq!((status, &problem["code"]), (413, &json!("WORKSPACE_QUOTA")), "{problem}");
    assert_eq!(delete(&host, &id, "output/c.txt").await, 204);
    assert_eq!(run(&host, "writes", &id, json!({ "do": "echo", "value": 1 })).await["status"], "SUCCESS");
    let (status, problem) = put(&host, &id, "input/large", vec![b'x'; 3_000_000]).await;
    assert_eq!((status, &problem["code"]), (413, &json!("WORKSPACE_QUOTA")), "{problem}");
    assert!(!paths(&host, &id).await.contains(&"input/large".to_owned()), "what was refused leaves nothing");
    // Both would be at /workspace.
    let both = json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "capabilities": { "session": "READ", "workspace": "source" } });
    let (status, problem) = host.send(Method::PUT, "/api/v1/definitions/both", Some(both)).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!("/capabilities/session")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fills_its_workspace_is_stopped_while_it_runs() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    probe_with(&host, "reads", "READ").await;
    probe_with(&host, "writes", "READ_WRITE").await;
    let id = session(&host, json!({ "quota_bytes": 1_000_000 })).await;
    let begin = async |definition: &str, params: Value| {
        let body = json!({ "definition": definition, "session_id": id, "params": params });
        host.post("/api/v1/traces", body).await["trace_id"].as_str().unwrap().to_owned()
    };
    // Far longer than any test waits.
    let stay = json!({ "do": "nap_in_host", "ms": 1_000_000 });
    let (reader, other) = (begin("reads", stay.clone()).await, begin("writes", stay).await);
    let under = run(&host, "writes", &id, json!({ "do": "fill", "path": "/workspace/output/a", "bytes": 900_000 })).await;
    assert_eq!(under["status"], "SUCCESS", "{under}");
    let over = begin("writes", json!({ "do": "fill", "path": "/workspace/output/b", "bytes": 200_000, "ms": 1_000_000 })).await;
    // Nobody can say who filled it: all who could have are stopped, and who only reads goes on.
    for trace in [over, other] {
        let ended = host.ended(&trace).await;
        assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("FAILED"), &json!("WORKSPACE_QUOTA")), "{ended}");
    }
    assert_eq!(host.get(&format!("/api/v1/traces/{reader}")).await["status"], "RUNNING");
    host.post(&format!("/api/v1/traces/{reader}/cancel"), json!({})).await;
    assert_eq!(delete(&host, &id, "output/b").await, 204);
    assert_eq!(run(&host, "writes", &id, json!({ "do": "echo", "value": 1 })).await["status"], "SUCCESS", "and then it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_takes_nothing_and_its_files_go() {
    let host = Host::start(&["--closed-kept", "0"]).await;
    host.install("probe").await;
    probe_with(&host, "reads", "READ").await;
    let id = session(&host, json!({ "sdk_session_id": "s-1", "labels": { "a": "b" } })).await;
    put(&host, &id, "input/a.txt", "hello").await;
    let begun = json!({ "definition": "reads", "session_id": id, "params": { "do": "nap_in_host", "ms": 60_000 } });
    let (_, trace) = host.send(Method::POST, "/api/v1/traces", Some(begun.clone())).await;
    let path = format!("/api/v1/sessions/{id}");
    let (status, problem) = host.send(Method::DELETE, &path, None).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("SESSION_IN_USE")), "{problem}");
    host.post(&format!("/api/v1/traces/{}/cancel", trace["trace_id"].as_str().unwrap()), json!({})).await;
    host.ended(trace["trace_id"].as_str().unwrap()).await;
    let (status, closed) = host.send(Method::DELETE, &path, None).await;
    assert_eq!((status.as_u16(), &closed["status"], &closed["sdk_session_id"]), (200, &json!("CLOSED"), &json!("s-1")), "{closed}");
    let (status, problem) = host.send(Method::POST, "/api/v1/traces", Some(begun)).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("SESSION_CLOSED")), "{problem}");
    assert_eq!(put(&host, &id, "input/b", "x").await.1["code"], "SESSION_CLOSED");
    host.until("the files to go", &path, |body| (body["bytes"] == 0).then_some(())).await;
    assert!(!host.data.join("workspaces/u-ada").join(&id).exists());
    let unknown = "01JD3R5N7Q8V9W0X1Y2Z3A4B5C";
    let (status, problem) = host.send(Method::GET, &format!("/api/v1/sessions/{unknown}"), None).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("NO_SUCH_SESSION")), "{problem}");
    let theirs = json!({ "definition": "reads", "session_id": session(&host, json!({})).await, "user_id": "eve" });
    let (status, problem) = host.send(Method::POST, "/api/v1/traces", Some(theirs)).await;
    assert_eq!((status.as_u16(), &problem["errors"][0]["pointer"]), (422, &json!("/user_id")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_uses_is_archived_and_comes_back() {
    let host = Host::start(&["--session-idle", "500ms", "--archive-after", "3s"]).await;
    host.install("notebook").await;
    let id = session(&host, json!({})).await;
    run(&host, "notebook", &id, json!({ "note": "one" })).await;
    put(&host, &id, ".towerignore", "*.tmp\n").await;
    put(&host, &id, "output/x.tmp", "x").await;
    let large = vec![7_u8; 20 << 20];
    put(&host, &id, "input/large", large.clone()).await;
    let path = format!("/api/v1/sessions/{id}");
    host.until("the archive", &path, |body| (body["status"] == "ARCHIVED").then_some(())).await;
    let folder = host.data.join("workspaces/u-ada").join(&id);
    let gone = tokio::time::timeout(Duration::from_secs(30), async {
        while folder.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    gone.await.unwrap();
    assert_eq!(run(&host, "notebook", &id, json!({ "note": "two" })).await["output"], json!({ "notes": ["one", "two"] }));
    let answer = reqwest::get(format!("{}{path}/files/input/large", host.url)).await.unwrap();
    assert!(answer.bytes().await.unwrap() == large, "what was in several pieces is whole again");
    assert!(!paths(&host, &id).await.contains(&"output/x.tmp".to_owned()), "what is ignored was not kept");
}

/// Pieces of archives in a folder of artifacts.
fn pieces(folder: &Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        found += if path.is_dir() { pieces(&path) } else { usize::from(std::fs::read(&path).unwrap_or_default().starts_with(b"\0tws")) };
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_goes_when_it_is_brought_back_and_when_its_session_is_closed() {
    let artifacts = tempfile::tempdir().unwrap();
    let kept = artifacts.path().to_str().unwrap().to_owned();
    let host = Host::start(&["--session-idle", "500ms", "--archive-after", "1s", "--closed-kept", "0", "--artifacts", &kept]).await;
    // Two alike: what is deleted of one is not the other's.
    let (one, two) = (session(&host, json!({})).await, session(&host, json!({})).await);
    let archived = async |id: &str| host.until("the archive", &format!("/api/v1/sessions/{id}"), |body| (body["status"] == "ARCHIVED").then_some(())).await;
    for id in [&one, &two] {
        put(&host, id, "input/a.txt", "hello").await;
    }
    for id in [&one, &two] {
        archived(id).await;
    }
    assert_eq!(pieces(artifacts.path()), 2);
    for _ in 0..2 {
        // It is back with the answer; it may be on its way again by the time that anybody looks.
        assert_eq!(get(&host, &one, "input/a.txt").await, (200, "hello".to_owned()));
        archived(&one).await;
    }
    assert_eq!(pieces(artifacts.path()), 2, "what it was brought back from is gone each time");
    for (id, left) in [(&one, 1), (&two, 0)] {
        let path = format!("/api/v1/sessions/{id}");
        assert_eq!(host.send(Method::DELETE, &path, None).await.0.as_u16(), 200);
        let begun = std::time::Instant::now();
        while pieces(artifacts.path()) != left {
            assert!(begun.elapsed().as_secs() < 60, "{} pieces", pieces(artifacts.path()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(host.get(&path).await["status"], "CLOSED");
    }
}

/// A server of one file, for as many requests as come.
async fn file_server(answer: &'static str) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_fetched_from_where_the_operator_allows_and_from_nowhere_else() {
    let good = file_server("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
    let elsewhere = file_server("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let endless = file_server("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\nconnection: close\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx").await;
    let host = Host::start(&[
        "--stage-from",
        &format!("http://{good}/data"),
        "--stage-from",
        &format!("http://{elsewhere}"),
        "--stage-from",
        &format!("http://{endless}"),
    ])
    .await;
    let id = session(&host, json!({ "quota_bytes": 20 })).await;
    let stage = async |body: Value| {
        let (status, body) = host.send(Method::POST, &format!("/api/v1/sessions/{id}/files"), Some(body)).await;
        (status.as_u16(), body)
    };
    let from = |url: String| json!({ "path": "input/x", "from_url": url });
    let (status, staged) = stage(from(format!("http://{good}/data/x"))).await;
    assert_eq!((status, &staged["workspace_bytes"]), (201, &json!(5)), "{staged}");
    assert_eq!(get(&host, &id, "input/x").await.1, "hello");
    for url in [format!("http://{good}/other"), format!("http://{good}/data/../other"), "https://example.com/".to_owned(), "file:///etc/passwd".to_owned()] {
        let (status, problem) = stage(from(url.clone())).await;
        assert_eq!((status, &problem["code"]), (422, &json!("STAGE_REFUSED")), "{url}: {problem}");
    }
    let (status, problem) = stage(from(format!("http://{elsewhere}/x"))).await;
    assert_eq!((status, &problem["code"]), (502, &json!("STAGE_FAILED")), "redirects are not followed: {problem}");
    let (status, problem) = stage(from(format!("http://{endless}/x"))).await;
    assert_eq!((status, &problem["code"]), (413, &json!("WORKSPACE_QUOTA")), "{problem}");
    assert_eq!(get(&host, &id, "input/x").await.1, "hello", "what was refused replaces nothing");
    let (status, problem) = stage(json!({ "path": "input/x" })).await;
    assert_eq!((status, &problem["code"]), (422, &json!("BAD_FIELDS")), "{problem}");
}

fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let done = command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main"]).args(args).output().unwrap();
    assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_fetched_without_its_hooks_and_its_links_lead_nowhere() {
    let source = tempfile::tempdir().unwrap();
    let repository = source.path().join("project");
    std::fs::create_dir(&repository).unwrap();
    git(&repository, &["init", "--quiet"]);
    std::fs::write(repository.join("README"), "read me").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", repository.join("link")).unwrap();
    git(&repository, &["add", "."]);
    git(&repository, &["commit", "--quiet", "-m", "first"]);
    git(&repository, &["tag", "v1"]);
    std::fs::write(repository.join("README"), "read me again").unwrap();
    git(&repository, &["commit", "--quiet", "-am", "second"]);
    let host = Host::start(&["--stage-from", &format!("file://{}", source.path().display())]).await;
    let id = session(&host, json!({})).await;
    let stage = async |path: &str, url: String, reference: Option<&str>| {
        let body = json!({ "path": path, "from_git": { "url": url, "ref": reference } });
        let (status, body) = host.send(Method::POST, &format!("/api/v1/sessions/{id}/files"), Some(body)).await;
        (status.as_u16(), body)
    };
    let url = format!("file://{}", repository.display());
    let (status, staged) = stage("input/project", url.clone(), None).await;
    assert_eq!(status, 201, "{staged}");
    assert_eq!(get(&host, &id, "input/project/README").await.1, "read me again");
    assert_eq!(get(&host, &id, "input/project/link").await, (200, "/etc/passwd".to_owned()), "a link is a file that says where it would lead");
    assert!(!paths(&host, &id).await.iter().any(|path| path.contains("hooks/")));
    assert_eq!(stage("input/old", url.clone(), Some("v1")).await.0, 201);
    assert_eq!(get(&host, &id, "input/old/README").await.1, "read me");
    let (status, problem) = stage("input/old", url.clone(), None).await;
    assert_eq!((status, &problem["code"]), (422, &json!("FILE_REFUSED")), "nothing is overwritten: {problem}");
    let (status, problem) = stage("input/none", url.clone(), Some("no-such-branch")).await;
    assert_eq!((status, &problem["code"]), (502, &json!("STAGE_FAILED")), "{problem}");
    for (url, reference) in [("file:///etc".to_owned(), None), ("ext::sh -c id".to_owned(), None), (url, Some("--upload-pack=id"))] {
        let (status, problem) = stage("input/bad", url, reference).await;
        assert_eq!((status, &problem["code"]), (422, &json!("STAGE_REFUSED")), "{problem}");
    }
    assert_eq!(std::fs::read_dir(host.data.join("workspaces/.incoming")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_has_sessions_and_their_files() {
    let host = Host::start(&[]).await;
    host.install("notebook").await;
    let cli = |args: &[&str]| {
        let done = tower().args(["--url", &host.url]).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let id = cli(&["sessions", "new", "ada", "--label", "a=b"]).trim().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "old").unwrap();
    cli(&["sessions", "put", &id, "output/notes.txt", file.to_str().unwrap()]);
    assert!(cli(&["trigger", "notebook", "--session", &id, "-p", "note=new", "--wait"]).contains("new"));
    assert_eq!(cli(&["sessions", "get", &id, "output/notes.txt"]), "old\nnew");
    cli(&["sessions", "get", &id, "output/notes.txt", "-f", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "old\nnew");
    assert!(cli(&["sessions", "files", &id]).contains("output/notes.txt"));
    assert!(cli(&["sessions", "ls", "--user", "ada"]).contains(&id));
    assert!(cli(&["traces", "--session", &id]).contains("notebook"));
    cli(&["sessions", "rm", &id, "output/notes.txt"]);
    assert!(!cli(&["sessions", "files", &id]).contains("notes.txt"));
    assert!(cli(&["sessions", "show", &id]).contains("a=b"));
    assert!(cli(&["sessions", "close", &id]).contains("CLOSED"));
}
