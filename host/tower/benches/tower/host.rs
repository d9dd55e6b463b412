//! A spawned tower, as in the tests, and what is measured of its process.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running tower with a data folder of its own.
pub(crate) struct Host {
    process: Child,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) data: PathBuf,
    _folder: tempfile::TempDir,
}

impl Host {
    pub(crate) async fn start() -> Self {
        // On a disk, not in memory: `TMPDIR` often is the latter.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let data = folder.path().join("data");
        let (process, url) = spawn(&data).await;
        Self { process, url, client: client(true), data, _folder: folder }
    }

    /// Ends it in order and starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        self.terminate().await;
        (self.process, self.url) = spawn(&self.data).await;
    }

    pub(crate) async fn stop(mut self) {
        self.terminate().await;
    }

    async fn terminate(&mut self) {
        let pid = self.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.process.wait().await.unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    pub(crate) async fn upload(&self, name: &str, wasm: Vec<u8>) {
        let request = self.client.post(format!("{}/api/v1/modules?name={name}", self.url)).header("content-type", "application/wasm");
        let response = request.body(wasm).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
    }

    pub(crate) async fn install(&self, name: &str) {
        let example = command_tower_examples::find(name).unwrap();
        for module in example.modules {
            self.upload(module.name, module.wasm.to_vec()).await;
        }
        let agent = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "max_children": 1_000_000, "timeout_sec": 600 });
        self.ask(Method::PUT, "/api/v1/definitions/agent", Some(agent)).await;
        let step = json!({ "actor_type": "EXECUTION", "code_ref": "wasm://probe", "timeout_sec": 600 });
        self.ask(Method::PUT, "/api/v1/definitions/probe-exec", Some(step)).await;
    }

    /// Begins a trace of the agent and answers its id.
    pub(crate) async fn trigger(&self, params: Value) -> String {
        let started = self.ask(Method::POST, "/api/v1/traces", Some(json!({ "definition": "agent", "params": params }))).await;
        started["trace_id"].as_str().unwrap().to_owned()
    }

    /// The trace, once it has ended.
    pub(crate) async fn ended(&self, trace: &str) -> Value {
        loop {
            let body = self.ask(Method::GET, &format!("/api/v1/traces/{trace}?wait=60s"), None).await;
            if !matches!(body["status"].as_str(), Some("PENDING" | "RUNNING")) {
                return body;
            }
        }
    }

    /// The trace, once `holds` does.
    pub(crate) async fn until(&self, trace: &str, holds: impl Fn(&Value) -> bool) {
        while !holds(&self.ask(Method::GET, &format!("/api/v1/traces/{trace}"), None).await) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Memory of the process, in MiB.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// Time of the processor that the process has used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }

    /// Size of the database with its log, in bytes.
    pub(crate) fn database_bytes(&self) -> u64 {
        ["tower.db", "tower.db-wal"].iter().filter_map(|file| std::fs::metadata(self.data.join(file)).ok()).map(|known| known.len()).sum()
    }
}

/// A client that keeps its connections, or one that opens a new one each time.
pub(crate) fn client(keeps: bool) -> Client {
    let builder = Client::builder().tcp_nodelay(true);
    if keeps { builder } else { builder.pool_max_idle_per_host(0) }.build().unwrap()
}

async fn spawn(data: &std::path::Path) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(data);
    let mut process = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the tower said `{line}`")).to_owned();
    (process, url)
}
