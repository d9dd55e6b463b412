//! A PostgreSQL of its own for each test process: made in a temporary folder when the first test asks, gone with the process, whatever
//! ends that.
//!
//! ```no_run
//! let database = tower_test_postgres::Cluster::shared().database();
//! println!("{}", database.url());
//! ```
//!
//! A small shell stands between the tests and PostgreSQL. It takes orders on its standard input; when that ends, because the test
//! process has ended, was killed or has died, it ends PostgreSQL and removes the folder. It runs as the user `postgres` if the tests run as
//! root, which PostgreSQL refuses to serve.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod programs;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

pub use programs::Programs;

/// How long PostgreSQL may take to start, also after a crash.
const START_MAX: Duration = Duration::from_secs(60);

/// Connections that it takes.
const CONNECTIONS_MAX: u32 = 500;

/// What the shell does: `start`, `stop <signal>`, and at the end of its input the end of all. `$1` is the folder, the rest starts PostgreSQL.
const SUPERVISOR: &str = r#"
folder=$1; shift
pid=
while read -r order signal; do
    case $order in
        start) jobs >/dev/null; kill -0 "$pid" 2>/dev/null || { "$@" >>"$folder/log" 2>&1 </dev/null & pid=$!; } ;;
        stop) kill "-$signal" "$pid"; wait "$pid"; pid= ;;
    esac
    echo "$order"
done
if [ -n "$pid" ]; then kill -QUIT "$pid" 2>/dev/null; wait "$pid"; fi
cd / && rm -rf "$folder"
"#;

/// How a cluster is to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether what is committed is on the disk. Tests that do not cut the power need no such thing.
    pub durable: bool,
    /// Further settings, each `name=value`.
    pub settings: Vec<String>,
    /// Where its folder is made, if not among the temporary ones.
    pub within: Option<PathBuf>,
    /// A network, as in `10.0.0.0/30`, that anybody may come from; `listen_addresses` is among the settings then.
    pub trusted: Option<String>,
}

/// A running PostgreSQL.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    folder: PathBuf,
    shell: Mutex<Shell>,
    databases: AtomicU64,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// A database that nobody else uses. It is dropped with this.
#[derive(Debug)]
pub struct Database {
    name: String,
    cluster: &'static Cluster,
}

/// How a running PostgreSQL is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Connections are cut, and everything is put in order.
    Fast,
    /// As by `kill -9`: it will have to recover.
    Kill,
}

impl Cluster {
    /// The one of this process, without care for power cuts.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&Options::default()))
    }

    /// Makes a cluster and starts it. It ends when this is dropped, or with the process.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub fn start(options: &Options) -> Self {
        let programs = Programs::find();
        let user = programs::unprivileged_user();
        // The shell removes it.
        let mut folder = tempfile::Builder::new();
        folder.prefix("tower-postgres-");
        let folder = match &options.within {
            Some(within) => folder.tempdir_in(within),
            None => folder.tempdir(),
        };
        let folder = folder.unwrap().keep();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let as_user = |program: &Path| {
            let mut command = Command::new(program);
            command.current_dir(&folder).env("LC_ALL", "C");
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = folder.join("data");
        let mut initdb = as_user(&programs.path("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]).arg("-D").arg(&data);
        if !options.durable {
            initdb.arg("--no-sync");
        }
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        if let Some(network) = &options.trusted {
            let mut rules = std::fs::OpenOptions::new().append(true).open(data.join("pg_hba.conf")).unwrap();
            writeln!(rules, "host all all {network} trust").unwrap();
        }
        let mut shell = as_user(Path::new("/bin/sh"));
        shell.args(["-c", SUPERVISOR, "sh"]).arg(&folder).arg(programs.path("postgres")).arg("-D").arg(&data).arg("-k").arg(&folder);
        let connections = format!("max_connections={CONNECTIONS_MAX}");
        shell.args(["-c", "listen_addresses=", "-c", &connections]);
        if !options.durable {
            shell.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        for setting in &options.settings {
            shell.arg("-c").arg(setting);
        }
        // In a process group of its own: what is typed at the tests' terminal is not for it. PostgreSQL's words are in its log.
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
        let (orders, answers) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let cluster = Self { programs, folder, shell: Mutex::new(Shell { child, orders, answers }), databases: AtomicU64::new(0) };
        cluster.begin();
        cluster
    }

    /// Starts it again after [`Self::stop`], and waits until it answers.
    ///
    /// # Panics
    /// If it does not start.
    pub fn begin(&self) {
        let begun = Instant::now();
        let mut tried: Option<Instant> = None;
        while !self.answers() {
            if begun.elapsed() > START_MAX {
                panic!("PostgreSQL does not start:\n{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
            }
            // After a kill it may find that what its earlier self has begun is not quite gone, and end. One that is there is not started twice.
            if tried.is_none_or(|tried| tried.elapsed() > Duration::from_secs(1)) {
                self.order("start");
                tried = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it.
    pub fn stop(&self, how: Stop) {
        self.order(match how {
            Stop::Fast => "stop INT",
            Stop::Kill => "stop KILL",
        });
    }

    /// Whether it takes connections.
    pub fn answers(&self) -> bool {
        let mut ready = Command::new(self.programs.path("pg_isready"));
        ready.arg("-q").arg("-h").arg(&self.folder).args(["-U", "postgres", "-d", "postgres"]).status().unwrap().success()
    }

    /// A fresh database.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn database(&'static self) -> Database {
        self.database_with("")
    }

    /// A fresh database; `options` stands behind CREATE DATABASE and its name.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn database_with(&'static self, options: &str) -> Database {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("CREATE DATABASE {name} {options}"));
        Database { name, cluster: self }
    }

    /// Runs a statement as the superuser, in the database `postgres`.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, statement: &str) {
        self.run_in("postgres", statement);
    }

    fn run_in(&self, database: &str, statement: &str) -> String {
        let done = self.tried_in(database, statement);
        assert!(done.status.success(), "`{statement}` failed: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn tried_in(&self, database: &str, statement: &str) -> std::process::Output {
        let mut psql = Command::new(self.programs.path("psql"));
        psql.arg("-h").arg(&self.folder).args(["-U", "postgres", "-d", database, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        psql.stdin(Stdio::null()).output().unwrap()
    }

    /// Where a database of this cluster is.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    /// The same for another user.
    pub fn url_as(&self, user: &str, database: &str) -> String {
        format!("postgres://{user}@localhost/{database}?host={}", self.folder.display())
    }

    /// The folder that holds all of it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn order(&self, order: &str) {
        let mut shell = self.shell.lock().unwrap();
        let shell = &mut *shell;
        let orders = shell.orders.as_mut().unwrap();
        writeln!(orders, "{order}").unwrap();
        orders.flush().unwrap();
        shell.answers.read_line(&mut String::new()).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(shell) = self.shell.get_mut() {
            // The end of its input is the order to end.
            shell.orders = None;
            let _ = shell.child.wait();
        }
    }
}

impl Database {
    /// Where it is.
    pub fn url(&self) -> String {
        self.cluster.url(&self.name)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks it as the superuser, and answers the one value that comes back.
    ///
    /// # Panics
    /// If it fails.
    pub fn ask(&self, question: &str) -> String {
        self.cluster.run_in(&self.name, question)
    }

    /// Runs a statement in it as the superuser, and answers whether that went well.
    pub fn try_run(&self, statement: &str) -> bool {
        self.cluster.tried_in(&self.name, statement).status.success()
    }

    /// Runs a statement in it as the superuser.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, statement: &str) {
        self.cluster.run_in(&self.name, statement);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Whether it is there or not matters to nobody any more, and its cluster may be down on purpose.
        let mut drop = Command::new(self.cluster.programs.path("psql"));
        drop.arg("-h").arg(&self.cluster.folder).args(["-U", "postgres", "-d", "postgres", "-X", "-q", "-c"]);
        drop.arg(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = drop.status();
    }
}
