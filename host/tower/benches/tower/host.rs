//! A spawned tower, as in the tests, and what is measured of its process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tower_test_postgres::{Cluster, Database, Options};

/// Where data is kept meanwhile: on a disk, not in memory, which `TMPDIR` often is.
pub(crate) const DISK: &str = env!("CARGO_TARGET_TMPDIR");

/// A back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

impl Backend {
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }

    /// A place for data of its own.
    pub(crate) fn database(self) -> Option<Arc<Database>> {
        (self == Self::Postgres).then(|| Arc::new(cluster().database()))
    }
}

/// The PostgreSQL of this run, with what it does by itself for what is committed: it is on the disk.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // Whoever PostgreSQL runs as must come through to it.
        let within = std::path::Path::new(DISK);
        let reachable = within.ancestors().all(|folder| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & 0o001 != 0)
        });
        let within = if reachable { within.to_owned() } else { PathBuf::from("/var/tmp") };
        Cluster::start(&Options { durable: true, within: Some(within), ..Options::default() })
    })
}

/// A running tower with a data folder of its own.
pub(crate) struct Host {
    process: Child,
    pub(crate) url: String,
    pub(crate) client: Client,
    pub(crate) data: PathBuf,
    pub(crate) database: Option<Arc<Database>>,
    args: Vec<String>,
    _folder: tempfile::TempDir,
}

/// What a process has used up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// What it has handed to the disk.
    pub(crate) written: u64,
    /// What its database holds, log and indexes included.
    pub(crate) kept: u64,
}

impl Host {
    /// On SQLite.
    pub(crate) async fn start() -> Self {
        Self::with(None, &[]).await
    }

    pub(crate) async fn on(backend: Backend, args: &[&str]) -> Self {
        Self::with(backend.database(), args).await
    }

    /// On a database, or a file of its own.
    pub(crate) async fn with(database: Option<Arc<Database>>, args: &[&str]) -> Self {
        let folder = tempfile::tempdir_in(DISK).unwrap();
        let data = folder.path().join("data");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (process, url) = spawn(&data, database.as_deref(), &args).await;
        Self { process, url, client: client(true), data, database, args, _folder: folder }
    }

    /// Ends it in order and starts it again on the same data. Answers how long it took until it was ready.
    pub(crate) async fn restart(&mut self) -> Duration {
        self.terminate().await;
        let begin = std::time::Instant::now();
        (self.process, self.url) = spawn(&self.data, self.database.as_deref(), &self.args).await;
        while !self.client.get(format!("{}/readyz", self.url)).send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begin.elapsed()
    }

    /// Ends it, and answers how many transactions it made of how many commands.
    pub(crate) async fn stop(mut self) -> (u64, u64) {
        self.terminate().await;
        let log = std::fs::read_to_string(log_of(&self.data)).unwrap();
        let line = log.lines().rev().find(|line| line.contains("all that was to be written is")).expect("the last words of the engine");
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap().parse().unwrap();
        (field("batches="), field("commands="))
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

    /// Memory of the process, in MiB: now, and at the most up to now.
    pub(crate) fn memory_mib(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        self.memory_mib().0
    }

    /// Time of the processor that the process has used.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second())
    }

    /// What it has used up. Of PostgreSQL only what is kept is known from here; its own work is not that of the process.
    pub(crate) fn usage(&self) -> Usage {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.pid())).unwrap();
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap();
        Usage { cpu: self.cpu(), written, kept: self.database_bytes() }
    }

    /// Size of the database with its log, in bytes.
    fn database_bytes(&self) -> u64 {
        match &self.database {
            Some(database) => database.ask(&format!("SELECT pg_database_size('{}')", database.name())).parse().unwrap(),
            None => {
                let sizes = ["tower.db", "tower.db-wal"].into_iter().filter_map(|file| std::fs::metadata(self.data.join(file)).ok());
                sizes.map(|known| known.len()).sum()
            }
        }
    }
}

/// A client that keeps its connections, or one that opens a new one each time.
pub(crate) fn client(keeps: bool) -> Client {
    let builder = Client::builder().tcp_nodelay(true);
    if keeps { builder } else { builder.pool_max_idle_per_host(0) }.build().unwrap()
}

fn log_of(data: &Path) -> PathBuf {
    data.with_file_name("log")
}

async fn spawn(data: &Path, database: Option<&Database>, args: &[String]) -> (Child, String) {
    let log = std::fs::File::create(log_of(data)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data).args(args);
    // Containers have rows of their own, on an engine of their own.
    if !args.iter().any(|arg| arg == "--docker") {
        command.args(["--docker", "off"]);
    }
    // The last words of the engine say how much went into a transaction.
    command.env("NO_COLOR", "1").env("TOWER_LOG", "warn,tower_engine=info");
    if let Some(database) = database {
        command.env("TOWER_DATABASE", database.url());
    }
    let mut process = command.stdout(Stdio::piped()).stderr(log).kill_on_drop(true).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the tower said `{line}`")).to_owned();
    (process, url)
}
