//! A spawned tower, and what tests ask of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

/// The longest that any condition is waited for.
const PATIENCE: Duration = Duration::from_secs(90);

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The `tower` command.
pub(crate) fn tower() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower"));
    // Settings of whoever runs the tests are not those of the tests.
    command.env_remove("TOWER_URL").env_remove("TOWER_CONFIG").env("XDG_CONFIG_HOME", "/no/such/folder").env("NO_COLOR", "1");
    command
}

/// The `tower` command after a shell command, such as one that lowers a limit of the process.
pub(crate) fn under(before: &str) -> Command {
    let mut command = Command::new("bash");
    command.env_remove("TOWER_URL").env("NO_COLOR", "1").args(["-c", &format!("{before}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_tower")]);
    command
}

/// A running tower with a data folder of its own; killed when dropped.
pub(crate) struct Host {
    process: Child,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    client: Client,
    args: Vec<String>,
    _folder: Option<tempfile::TempDir>,
}

impl Host {
    /// With an empty data folder.
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_as(tower(), args).await
    }

    /// The same, after a shell command.
    pub(crate) async fn start_under(before: &str, args: &[&str]) -> Self {
        Self::start_as(under(before), args).await
    }

    async fn start_as(command: Command, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (process, url) = spawn(command, &data, &args).await;
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A host that closes silent connections early is asked over a new one each time: one that is reused might be just being closed.
        let pooled = if args.iter().any(|arg| arg == "--idle-timeout") { 0 } else { usize::MAX };
        let client = Client::builder().pool_max_idle_per_host(pooled).build().unwrap();
        Self { process, url, data, client, args, _folder: Some(folder) }
    }

    /// The process, as the system knows it.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Ends without warning, as by a power cut for the process.
    pub(crate) async fn kill_9(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        let done = Command::new("kill").args(["-TERM", &self.process.id().unwrap().to_string()]).status().unwrap();
        assert!(done.success());
        tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("the tower ends").unwrap()
    }

    /// Starts again on the same data.
    pub(crate) async fn restart(&mut self) {
        (self.process, self.url) = spawn(tower(), &self.data, &self.args).await;
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// Answers the status and the JSON body.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {status}: {error}: {text}")))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "{path}: {status}: {answer}");
        answer
    }

    /// Uploads an example's modules and applies its definitions, over the API as anybody would.
    pub(crate) async fn install(&self, example: &str) {
        let example = command_tower_examples::find(example).unwrap();
        let manifest: Value = toml::from_str::<toml::Value>(example.tower_toml).unwrap().try_into().unwrap();
        let on_demand: Vec<&str> =
            manifest["module"].as_array().unwrap().iter().filter(|module| module["on_demand"] == true).map(|module| module["name"].as_str().unwrap()).collect();
        for module in example.modules.iter().filter(|module| !on_demand.contains(&module.name)) {
            let response = self
                .request(Method::POST, &format!("/api/v1/modules?name={}", module.name))
                .header("content-type", "application/wasm")
                .body(module.wasm)
                .send()
                .await
                .unwrap();
            assert!(response.status().is_success(), "{}: {}", module.name, response.text().await.unwrap());
        }
        for definition in manifest["definition"].as_array().unwrap() {
            let mut spec = definition.clone();
            let id = spec.as_object_mut().unwrap().remove("id").unwrap();
            if on_demand.iter().any(|module| spec["code_ref"] == format!("wasm://{module}")) {
                continue;
            }
            if spec["capabilities"]["workspace"] == "source" && !self.args.iter().any(|arg| arg.starts_with("source=")) {
                continue;
            }
            let (status, body) = self.send(Method::PUT, &format!("/api/v1/definitions/{}", id.as_str().unwrap()), Some(spec)).await;
            assert!(status.is_success(), "{id}: {status}: {body}");
        }
    }

    /// Begins a trace and answers its id.
    pub(crate) async fn trigger(&self, definition: &str, params: Value) -> String {
        let started = self.post("/api/v1/traces", json!({ "definition": definition, "params": params })).await;
        started["trace_id"].as_str().unwrap().to_owned()
    }

    /// The trace once it has ended.
    pub(crate) async fn ended(&self, trace: &str) -> Value {
        let begin = Instant::now();
        loop {
            let body = self.get(&format!("/api/v1/traces/{trace}?wait=30s")).await;
            if !matches!(body["status"].as_str(), Some("PENDING" | "RUNNING")) {
                return body;
            }
            assert!(begin.elapsed() < PATIENCE, "{trace} did not end: {body}");
        }
    }

    /// Begins a trace and answers it once it has ended.
    pub(crate) async fn run(&self, definition: &str, params: Value) -> Value {
        let trace = self.trigger(definition, params).await;
        self.ended(&trace).await
    }

    /// Everything on all pages of a list.
    pub(crate) async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{joint}limit=500{cursor}")).await;
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// A trace's tasks by key.
    pub(crate) async fn tasks(&self, trace: &str) -> HashMap<String, Value> {
        let tasks = self.all(&format!("/api/v1/traces/{trace}/tasks")).await;
        tasks.into_iter().map(|task| (task["key"].as_str().unwrap().to_owned(), task)).collect()
    }

    /// All events of a trace.
    pub(crate) async fn events(&self, trace: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event["seq"].as_u64().unwrap());
            let page = self.get(&format!("/api/v1/traces/{trace}/events?after={after}&limit=500")).await;
            let items = page["items"].as_array().unwrap();
            if items.is_empty() {
                return events;
            }
            events.extend(items.iter().cloned());
        }
    }

    /// Waits until `check` answers.
    pub(crate) async fn until<T>(&self, what: &str, path: &str, check: impl Fn(&Value) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            let body = self.get(path).await;
            if let Some(answer) = check(&body) {
                return answer;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}; last seen: {body}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn spawn(command: Command, data: &Path, args: &[String]) -> (Child, String) {
    let mut command = tokio::process::Command::from(command);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).args(args);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the tower said `{line}`")).to_owned();
    (process, url)
}
