//! Settings of the server.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tower_domain::name::Name;
use tower_domain::schedule::zone::Zone;
use tower_domain::schedule::{NightWindow, check};
use tower_executors::wasm::CompileLimits;
use tower_outside::push::AllowedUrl;
use tower_store::blobs;

use super::{ContainerArgs, SessionArgs, parse_duration};
use crate::server::Patience;

/// What a timeout may be.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// Shortest and longest lease: below, a busy disk would lose claims; above, a host that is gone would keep them for long.
const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// What an operator may have as the shortest time between two firings: nothing fires more often than each second.
const SCHEDULE_INTERVAL_MIN: RangeInclusive<Duration> = check::SHORTEST..=Duration::from_secs(31_536_000);

/// How long ended traces may be kept: not shorter than the keys against doubles count, which refer to them.
const RETENTION: RangeInclusive<Duration> = Duration::from_secs(24 * 3_600)..=Duration::from_secs(36_500 * 24 * 3_600);

/// The longest wait for a database at the start.
const DATABASE_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// How long a claim holds unless something else is set.
pub(crate) const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// Settings as flags and environment variables; their headings are the sections of files.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, help_heading = "Server", env = "TOWER_LISTEN", default_value = "127.0.0.1:8001")]
    pub(crate) listen: SocketAddr,
    /// Folder for the database and the modules; made if it is not there
    #[arg(long, help_heading = "Server", env = "TOWER_DATA_DIR", default_value = ".tower")]
    pub(crate) data_dir: PathBuf,
    /// A PostgreSQL database, which several hosts may share; default: a SQLite file in the data folder
    #[arg(long, help_heading = "Server", env = "TOWER_DATABASE", value_name = "postgres://USER@HOST/NAME")]
    pub(crate) database: Option<String>,
    /// Where outside workers and other hosts reach this host; default: `http://` and the address that it listens on
    #[arg(long, help_heading = "Server", env = "TOWER_ADVERTISE_URL", value_name = "http://HOST:PORT")]
    pub(crate) advertise_url: Option<String>,
    /// How long a PostgreSQL that does not answer is waited for at the start; 0 does not wait
    #[arg(long, help_heading = "Server", env = "TOWER_DATABASE_WAIT", default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) database_wait: Duration,
    /// Where modules and large outputs are kept: a folder, or a bucket of S3 or what speaks like it, which hosts of one database must share;
    /// default: with PostgreSQL in the database, else in the data folder
    #[arg(long, help_heading = "Server", env = "TOWER_ARTIFACTS", value_name = "DIR|s3://BUCKET/PREFIX")]
    pub(crate) artifacts: Option<Artifacts>,
    /// The name of this host among those of its database; default: one that is made up and kept in the data folder
    #[arg(long, help_heading = "Host", env = "TOWER_HOST_ID", value_name = "NAME")]
    pub(crate) host_id: Option<Name>,
    /// Largest module that is taken, in MiB
    #[arg(long, help_heading = "Server", env = "TOWER_MODULE_MIB_MAX", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) module_mib_max: u32,
    /// Connections that are served at the same time
    #[arg(long, help_heading = "Server", env = "TOWER_CONNECTIONS_MAX", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections_max: u32,
    /// The definition that tasks of `POST /tasks` run which name none
    #[arg(long, help_heading = "Server", env = "TOWER_TASK_DEFINITION", value_name = "NAME")]
    pub(crate) task_definition: Option<Name>,
    /// Steps that run at the same time
    #[arg(long, help_heading = "Host", env = "TOWER_SLOTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) slots: u32,
    /// How long a cancelled step, and at shutdown any step, may go on
    #[arg(long, help_heading = "Host", env = "TOWER_CANCEL_GRACE", default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) cancel_grace: Duration,
    /// How long a claim holds without a renewal; it is renewed three times as often
    #[arg(long, help_heading = "Host", env = "TOWER_LEASE", default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) lease: Duration,
    /// The hours of each day in which NIGHTLY tasks run; they may go over midnight
    #[arg(long, help_heading = "Host", env = "TOWER_NIGHT_WINDOW", default_value = "02:00-08:00", value_name = "HH:MM-HH:MM", value_parser = NightWindow::from_str)]
    pub(crate) night_window: NightWindow,
    /// The time zone of these hours, an IANA name
    #[arg(long, help_heading = "Host", env = "TOWER_NIGHT_TIMEZONE", default_value = "UTC", value_name = "ZONE", value_parser = Zone::from_str)]
    pub(crate) night_timezone: Zone,
    /// Tasks of one user's traces that run at the same time; default: no limit
    #[arg(long, help_heading = "Host", env = "TOWER_USER_MAX_CONCURRENT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) user_max_concurrent: Option<u32>,
    /// The shortest time between two firings of a schedule; definitions that fire more often are refused
    #[arg(long, help_heading = "Host", env = "TOWER_SCHEDULE_INTERVAL_MIN", default_value = "1s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) schedule_interval_min: Duration,
    /// How long traces are kept after their end, with all that is known of them; at least 24h. Default: for ever
    #[arg(long, help_heading = "Host", env = "TOWER_RETENTION", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) retention: Option<Duration>,
    /// A folder that definitions may be granted by this name, read-only (repeatable)
    #[arg(long = "mount", help_heading = "Host", env = "TOWER_MOUNTS", value_name = "NAME=DIR", value_delimiter = ',')]
    pub(crate) mounts: Vec<Mount>,
    /// Event streams at the same time; default: half the connections
    #[arg(long, help_heading = "Server", env = "TOWER_STREAMS_MAX", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) streams_max: Option<u32>,
    /// Bodies of requests that are in memory at the same time, in MiB
    #[arg(long, help_heading = "Server", env = "TOWER_BODIES_MIB_MAX", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) bodies_mib_max: u32,
    /// How long the head of a request may take
    #[arg(long, help_heading = "Server", env = "TOWER_HEADER_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) header_timeout: Duration,
    /// How long the body of a request may stand still, and, at less than 16 KiB a second, take
    #[arg(long, help_heading = "Server", env = "TOWER_BODY_TIMEOUT", default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) body_timeout: Duration,
    /// How long a connection may be silent, and a client take nothing of an answer
    #[arg(long, help_heading = "Server", env = "TOWER_IDLE_TIMEOUT", default_value = "75s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) idle_timeout: Duration,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
    #[command(flatten)]
    pub(crate) sessions: SessionArgs,
    #[command(flatten)]
    pub(crate) workers: WorkerArgs,
    #[command(flatten)]
    pub(crate) containers: ContainerArgs,
}

/// Outside workers.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerArgs {
    /// How long a worker that holds a step may say nothing
    #[arg(long, help_heading = "Workers", env = "TOWER_WORKER_LEASE", default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) worker_lease: Duration,
    /// What workers may be called at: definitions whose code is at `http://…` must begin like this (repeatable); default: none may
    #[arg(long = "worker-url", help_heading = "Workers", env = "TOWER_WORKER_URLS", value_name = "http://HOST:PORT/PATH", value_delimiter = ',', value_parser = AllowedUrl::parse)]
    pub(crate) worker_urls: Vec<AllowedUrl>,
    /// Steps that workers which are called work on at the same time
    #[arg(long, help_heading = "Workers", env = "TOWER_HTTP_STEPS_MAX", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) http_steps_max: u32,
}

/// What compiling one module may use.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompileArgs {
    /// Memory that compiling one module may take, in MiB
    #[arg(long, help_heading = "Compile", env = "TOWER_COMPILE_MIB_MAX", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    pub(crate) compile_mib_max: u32,
    /// Time on the processor that compiling one module may take, in seconds
    #[arg(long, help_heading = "Compile", env = "TOWER_COMPILE_CPU_SEC_MAX", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) compile_cpu_sec_max: u32,
}

impl Default for CompileArgs {
    fn default() -> Self {
        Self { compile_mib_max: 2048, compile_cpu_sec_max: 30 }
    }
}

impl CompileArgs {
    /// As the sandbox takes them.
    pub(crate) fn limits(&self) -> CompileLimits {
        CompileLimits { memory_bytes: u64::from(self.compile_mib_max) << 20, cpu_sec: self.compile_cpu_sec_max.into(), ..CompileLimits::default() }
    }
}

/// A place for modules and large outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Artifacts {
    /// A folder.
    Folder(PathBuf),
    /// The address of a bucket. What else it takes is in the environment, as for any program that uses such.
    Bucket(String),
}

impl FromStr for Artifacts {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None if text.is_empty() => Err("the name of a folder, or s3://BUCKET/PREFIX".to_owned()),
            None => Ok(Self::Folder(text.into())),
            Some(_) => blobs::bucket_of(text).map(|_| Self::Bucket(text.to_owned())),
        }
    }
}

/// Whether a text is the address of a PostgreSQL database.
pub(crate) fn is_postgres(text: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
}

/// A folder under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// What definitions call it.
    pub(crate) name: Name,
    /// Where it is.
    pub(crate) dir: PathBuf,
}

impl FromStr for Mount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, dir) = text.split_once('=').ok_or_else(|| format!("`{text}`: a mount is NAME=DIR"))?;
        let name = Name::new(name).map_err(|error| error.to_string())?;
        Ok(Self { name, dir: dir.into() })
    }
}

/// Settings, checked.
#[derive(Debug, Clone)]
pub(crate) struct ServeConfig {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// Where everything is kept that is not kept elsewhere.
    pub(crate) data_dir: PathBuf,
    /// The address of a PostgreSQL database.
    pub(crate) database: Option<String>,
    /// How long a database that does not answer is waited for.
    pub(crate) database_wait: Duration,
    /// Where modules and large outputs are kept, if that is said.
    pub(crate) artifacts: Option<Artifacts>,
    /// What this host is called.
    pub(crate) host_id: Option<Name>,
    /// Where others reach it.
    pub(crate) url: Option<String>,
    /// What the host runs with.
    pub(crate) host: HostConfig,
    /// What runs steps outside of its process.
    pub(crate) outside: OutsideConfig,
    /// Largest module, in bytes.
    pub(crate) module_bytes_max: usize,
    /// What tasks that name no definition run.
    pub(crate) task_definition: Option<Name>,
    /// What connections may take.
    pub(crate) limits: ConnectionLimits,
    /// What sessions may take.
    pub(crate) sessions: SessionArgs,
}

/// What runs steps outside of the host's process.
#[derive(Debug, Clone)]
pub(crate) struct OutsideConfig {
    /// How long a worker that holds a step may say nothing.
    pub(crate) worker_lease: Duration,
    /// What workers may be called at.
    pub(crate) worker_urls: Vec<AllowedUrl>,
    /// Steps that are out at such workers at the same time.
    pub(crate) http_steps_max: u32,
    /// What containers may be and use.
    pub(crate) containers: ContainerArgs,
}

impl Default for OutsideConfig {
    fn default() -> Self {
        Self { worker_lease: LEASE_DEFAULT, worker_urls: Vec::new(), http_steps_max: 64, containers: ContainerArgs::off() }
    }
}

/// What connections may take, of the host and of time.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// Connections at the same time.
    pub(crate) connections_max: usize,
    /// Event streams at the same time.
    pub(crate) streams_max: usize,
    /// Bodies in memory at the same time, in KiB.
    pub(crate) bodies_kib_max: usize,
    /// For bodies of requests.
    pub(crate) body_timeout: Duration,
    /// For everything else.
    pub(crate) patience: Patience,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        let patience = Patience { header: Duration::from_secs(10), idle: Duration::from_secs(75) };
        Self { connections_max: 1_000, streams_max: 500, bodies_kib_max: 512 * 1024, body_timeout: Duration::from_secs(30), patience }
    }
}

/// Settings of the part that runs steps, with or without a server around it.
#[derive(Debug, Clone)]
pub(crate) struct HostConfig {
    /// Steps at the same time.
    pub(crate) slots: u32,
    /// For cancelled steps, and at shutdown for all.
    pub(crate) cancel_grace: Duration,
    /// How long a claim holds without a renewal.
    pub(crate) lease: Duration,
    /// The hours of NIGHTLY tasks.
    pub(crate) night: NightWindow,
    /// Tasks of one user's traces at the same time.
    pub(crate) user_max_concurrent: Option<u32>,
    /// Whether definitions fire by themselves.
    pub(crate) schedules: bool,
    /// The shortest time between two firings of a definition.
    pub(crate) schedule_interval_min: Duration,
    /// How long ended traces are kept; none: for ever.
    pub(crate) retention: Option<Duration>,
    /// Folders that may be granted.
    pub(crate) mounts: Vec<Mount>,
    /// What compiling one module may use.
    pub(crate) compile: CompileArgs,
}

impl ServeArgs {
    /// Checks what no single flag can.
    pub(crate) fn check(self) -> anyhow::Result<ServeConfig> {
        anyhow::ensure!(
            self.listen.ip().is_loopback(),
            "--listen {} is not a loopback address: this version has no authentication, so that everybody who reaches it could upload and run code.\n  \
             help: listen on 127.0.0.1 and put a proxy with authentication in front",
            self.listen
        );
        anyhow::ensure!(LEASE.contains(&self.lease), "--lease {:?}: 1s to 1h", self.lease);
        anyhow::ensure!(
            SCHEDULE_INTERVAL_MIN.contains(&self.schedule_interval_min),
            "--schedule-interval-min {:?}: 1s to 8760h, which is a year",
            self.schedule_interval_min
        );
        anyhow::ensure!(
            self.retention.is_none_or(|kept| RETENTION.contains(&kept)),
            "--retention {:?}: 24h, for as long as idempotency keys count, to 36500d",
            self.retention.unwrap_or_default()
        );
        anyhow::ensure!(self.database_wait <= DATABASE_WAIT_MAX, "--database-wait {:?}: at most 1h", self.database_wait);
        for (index, mount) in self.mounts.iter().enumerate() {
            anyhow::ensure!(mount.dir.is_dir(), "--mount {}={}: there is no such folder", mount.name, mount.dir.display());
            anyhow::ensure!(!self.mounts[..index].iter().any(|other| other.name == mount.name), "--mount {}: given twice", mount.name);
        }
        anyhow::ensure!(
            self.database.as_ref().is_none_or(|url| is_postgres(url)),
            "--database: an address such as postgres://user:password@host:5432/tower; a SQLite file needs none, it is in --data-dir"
        );
        anyhow::ensure!(LEASE.contains(&self.workers.worker_lease), "--worker-lease {:?}: 1s to 1h", self.workers.worker_lease);
        self.containers.check()?;
        let url = self.advertise_url.as_deref().map(own_url).transpose()?;
        self.sessions.check()?;
        let limits = self.limits()?;
        Ok(ServeConfig {
            listen: self.listen,
            data_dir: self.data_dir,
            database: self.database,
            database_wait: self.database_wait,
            artifacts: self.artifacts,
            host_id: self.host_id,
            url,
            outside: OutsideConfig {
                worker_lease: self.workers.worker_lease,
                worker_urls: self.workers.worker_urls,
                http_steps_max: self.workers.http_steps_max,
                containers: self.containers,
            },
            host: HostConfig {
                slots: self.slots,
                cancel_grace: self.cancel_grace,
                lease: self.lease,
                night: self.night_window.in_zone(self.night_timezone),
                user_max_concurrent: self.user_max_concurrent,
                schedules: true,
                schedule_interval_min: self.schedule_interval_min,
                retention: self.retention,
                mounts: self.mounts,
                compile: self.compile,
            },
            module_bytes_max: self.module_mib_max as usize * 1024 * 1024,
            task_definition: self.task_definition,
            limits,
            sessions: self.sessions,
        })
    }

    fn limits(&self) -> anyhow::Result<ConnectionLimits> {
        let timeouts = [("--header-timeout", self.header_timeout), ("--body-timeout", self.body_timeout), ("--idle-timeout", self.idle_timeout)];
        for (flag, timeout) in timeouts {
            anyhow::ensure!(TIMEOUTS.contains(&timeout), "{flag} {}s: 100ms to 1h", timeout.as_secs_f64());
        }
        let streams_max = self.streams_max.unwrap_or((self.connections_max / 2).max(1));
        anyhow::ensure!(
            streams_max <= self.connections_max,
            "--streams-max {streams_max} is more than --connections-max {}: every stream is a connection",
            self.connections_max
        );
        anyhow::ensure!(
            self.bodies_mib_max >= self.module_mib_max,
            "--bodies-mib-max {} is less than --module-mib-max {}: no such module could be taken",
            self.bodies_mib_max,
            self.module_mib_max
        );
        Ok(ConnectionLimits {
            connections_max: self.connections_max as usize,
            streams_max: streams_max as usize,
            bodies_kib_max: self.bodies_mib_max as usize * 1024,
            body_timeout: self.body_timeout,
            patience: Patience { header: self.header_timeout, idle: self.idle_timeout },
        })
    }
}

/// An address that paths are put behind.
fn own_url(text: &str) -> anyhow::Result<String> {
    let is_url = AllowedUrl::parse(text).is_ok();
    anyhow::ensure!(is_url, "--advertise-url {text}: where this host is reached, such as http://tower-1.example:8001");
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn args(flags: &[&str]) -> Result<ServeArgs, clap::Error> {
        Program::try_parse_from(["tower"].iter().chain(flags)).map(|program| program.serve)
    }

    #[test]
    fn the_defaults_are_sound() {
        let config = args(&[]).unwrap().check().unwrap();
        assert_eq!((config.listen.port(), config.host.slots, config.module_bytes_max), (8001, 256, 64 << 20));
        assert_eq!((config.host.cancel_grace, config.host.lease), (Duration::from_secs(5), LEASE_DEFAULT));
        // What the demo runs with is what the flags say.
        let (flags, plain) = (format!("{:?}", config.limits), format!("{:?}", ConnectionLimits::default()));
        assert_eq!(flags, plain);
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        for flags in [["--header-timeout", "0"], ["--body-timeout", "50ms"], ["--idle-timeout", "2h"], ["--streams-max", "1001"], ["--bodies-mib-max", "63"]] {
            let refused = args(&flags).unwrap().check().unwrap_err().to_string();
            assert!(refused.contains(flags[0]), "{refused}");
        }
        assert_eq!(args(&["--connections-max", "10"]).unwrap().check().unwrap().limits.streams_max, 5);
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        for listen in ["0.0.0.0:8001", "[::]:8001", "192.168.1.2:80"] {
            let refused = args(&["--listen", listen]).unwrap().check().unwrap_err();
            assert!(refused.to_string().contains("no authentication"), "{refused}");
        }
        assert!(args(&["--listen", "[::1]:0"]).unwrap().check().is_ok());
    }

    #[test]
    fn a_lease_is_neither_short_nor_long() {
        for lease in ["999ms", "61m", "0s"] {
            assert!(args(&["--lease", lease]).unwrap().check().is_err(), "{lease}");
        }
        assert_eq!(args(&["--lease", "1s"]).unwrap().check().unwrap().host.lease, Duration::from_secs(1));
    }

    #[test]
    fn the_shortest_time_between_firings_is_a_second_to_a_year() {
        for short in ["999ms", "0s", "8761h"] {
            let refused = args(&["--schedule-interval-min", short]).unwrap().check().unwrap_err().to_string();
            assert!(refused.contains("--schedule-interval-min") && refused.contains("1s"), "{refused}");
        }
        assert_eq!(args(&[]).unwrap().check().unwrap().host.schedule_interval_min, check::SHORTEST);
        assert_eq!(args(&["--schedule-interval-min", "8760h"]).unwrap().check().unwrap().host.schedule_interval_min.as_secs(), 31_536_000);
    }

    #[test]
    fn retention_is_a_day_or_more() {
        for (kept, days) in [("24h", 1), ("30d", 30), ("36500d", 36_500)] {
            let config = args(&["--retention", kept]).unwrap().check().unwrap();
            assert_eq!(config.host.retention, Some(Duration::from_secs(days * 86_400)));
        }
        for kept in ["0", "23h", "40000d"] {
            let refused = args(&["--retention", kept]).unwrap().check().unwrap_err().to_string();
            assert!(refused.contains("--retention") && refused.contains("24h"), "{refused}");
        }
        assert!(args(&["--database-wait", "2h"]).unwrap().check().unwrap_err().to_string().contains("--database-wait"));
        assert_eq!(args(&["--database-wait", "0"]).unwrap().check().unwrap().database_wait, Duration::ZERO);
    }

    #[test]
    fn artifacts_are_in_a_folder_or_in_a_bucket() {
        let place = |text: &str| args(&["--artifacts", text]).map(|args| args.artifacts);
        assert_eq!(place("/srv/blobs").unwrap(), Some(Artifacts::Folder("/srv/blobs".into())));
        assert_eq!(place("s3://b/p").unwrap(), Some(Artifacts::Bucket("s3://b/p".to_owned())));
        for text in ["", "s3://", "gs://b", "s3://key:secret@b", "http://b"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts_are_named_folders() {
        assert!(args(&["--mount", "source=."]).unwrap().check().is_ok());
        assert!(args(&["--mount", "source=.", "--mount", "source=/"]).unwrap().check().is_err());
        assert!(args(&["--mount", "source=/no/such/folder"]).unwrap().check().is_err());
        assert!(args(&["--mount", "Source=."]).is_err());
        assert!(args(&["--mount", "source"]).is_err());
    }
}
