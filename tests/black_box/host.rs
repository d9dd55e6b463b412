//! A spawned tower, and what tests ask of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tower_test_postgres::{Cluster, Database};

/// The longest that any condition is waited for: what it takes on a machine that has very much else to do.
const PATIENCE: Duration = Duration::from_secs(240);

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

/// Whether the tests are to run on PostgreSQL instead of SQLite.
pub(crate) fn on_postgres() -> bool {
    std::env::var("TOWER_TEST_BACK_END").is_ok_and(|back_end| back_end == "postgres")
}

/// A running tower with a data folder of its own; killed when dropped.
pub(crate) struct Host {
    process: Option<Child>,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    client: Client,
    /// More settings.
    pub(crate) args: Vec<String>,
    /// Of its environment: faults on order, mostly.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// The database that it works on, if that is not a file of its own.
    pub(crate) database: Option<Arc<Database>>,
    /// What it is started by, if not directly.
    pub(crate) prefix: Vec<String>,
    _folder: Option<tempfile::TempDir>,
}

impl Host {
    /// With an empty data folder.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let mut host = Self::new(args);
        host.restart().await;
        host
    }

    /// The same, after a shell command, such as one that lowers a limit of the process.
    pub(crate) async fn start_under(before: &str, args: &[&str]) -> Self {
        let mut host = Self::new(args);
        host.prefix = ["bash", "-c", &format!("{before}; exec \"$0\" \"$@\"")].map(str::to_owned).to_vec();
        host.restart().await;
        host
    }

    /// Another host on the same database, with a data folder of its own.
    pub(crate) async fn beside(other: &Self, args: &[&str]) -> Self {
        let mut host = Self::new(args);
        host.database = Some(other.database.clone().expect("one that can be shared"));
        host.variables.clone_from(&other.variables);
        host.restart().await;
        host
    }

    /// On a PostgreSQL database of its own, whatever the others are on.
    pub(crate) async fn on_postgres(args: &[&str]) -> Self {
        let mut host = Self::on_postgres_stopped(args);
        host.restart().await;
        host
    }

    /// The same, not started.
    pub(crate) fn on_postgres_stopped(args: &[&str]) -> Self {
        let mut host = Self::new(args);
        host.database = Some(Arc::new(Cluster::shared().database()));
        host
    }

    /// Not started yet.
    pub(crate) fn new(args: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (variables, prefix) = (Vec::new(), Vec::new());
        let database = on_postgres().then(|| Arc::new(Cluster::shared().database()));
        // A host that closes silent connections early is asked over a new one each time: one that is reused might be just being closed.
        let pooled = if args.iter().any(|arg| arg == "--idle-timeout") { 0 } else { usize::MAX };
        let client = Client::builder().pool_max_idle_per_host(pooled).build().unwrap();
        Self { process: None, url: String::new(), data, client, args, variables, database, prefix, _folder: Some(folder) }
    }

    /// Ends without warning, as by a power cut for the process.
    pub(crate) async fn kill_9(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal("TERM");
        self.death().await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap().success());
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id().unwrap()
    }

    /// Whether its process is there.
    pub(crate) fn lives(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// Waits until its process is gone.
    pub(crate) async fn death(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        tokio::time::timeout(PATIENCE, process.wait()).await.expect("the tower ends").unwrap()
    }

    /// Starts again on the same data.
    pub(crate) async fn restart(&mut self) {
        assert!(self.begin().await, "the tower said that it listens");
    }

    /// Starts it, and answers whether it came so far as to listen.
    pub(crate) async fn begin(&mut self) -> bool {
        let mut process = tokio::process::Command::from(self.command());
        let mut process = process.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let stdout = process.stdout.take().unwrap();
        self.process = Some(process);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.unwrap();
        let url = line.trim().strip_prefix("listening on ").map(str::to_owned);
        self.url = url.clone().unwrap_or_default();
        url.is_some()
    }

    /// What starts it.
    pub(crate) fn command(&self) -> Command {
        let tower = tower();
        let mut command = match self.prefix.split_first() {
            None => tower,
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(tower.get_program()).env_remove("TOWER_URL").env("NO_COLOR", "1");
                command
            }
        };
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&self.data).args(&self.args);
        if let Some(database) = &self.database {
            command.env("TOWER_DATABASE", database.url());
        }
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str()))).stdin(Stdio::null());
        command
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
        assert!(self.try_install(example).await, "the tower answers");
    }

    /// Likewise; answers whether the tower lived to answer everything.
    pub(crate) async fn try_install(&self, example: &str) -> bool {
        let example = command_tower_examples::find(example).unwrap();
        let manifest: Value = toml::from_str::<toml::Value>(example.tower_toml).unwrap().try_into().unwrap();
        let on_demand: Vec<&str> =
            manifest["module"].as_array().unwrap().iter().filter(|module| module["on_demand"] == true).map(|module| module["name"].as_str().unwrap()).collect();
        for module in example.modules.iter().filter(|module| !on_demand.contains(&module.name)) {
            let path = format!("/api/v1/modules?name={}", module.name);
            let upload = self.request(Method::POST, &path).header("content-type", "application/wasm").body(module.wasm);
            let Ok(response) = upload.send().await else { return false };
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
            let Ok(response) = self.request(Method::PUT, &format!("/api/v1/definitions/{}", id.as_str().unwrap())).json(&spec).send().await else {
                return false;
            };
            assert!(response.status().is_success(), "{id}: {}", response.text().await.unwrap());
        }
        true
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

    /// Waits until a path is answered with a status.
    pub(crate) async fn until_status(&self, status: u16, path: &str) {
        let begin = Instant::now();
        loop {
            let (answered, body) = self.send(Method::GET, path, None).await;
            if answered.as_u16() == status {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "waited in vain for {status} at {path}; last seen: {answered} {body}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
