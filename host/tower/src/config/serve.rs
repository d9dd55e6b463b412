//! Settings of the server.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tower_domain::name::Name;
use tower_domain::schedule::NightWindow;
use tower_domain::schedule::zone::Zone;
use tower_executors::wasm::CompileLimits;

use super::parse_duration;
use crate::server::Patience;

/// What a timeout may be.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// Shortest and longest lease: below, a busy disk would lose claims; above, a host that is gone would keep them for long.
const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

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
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// What the host runs with.
    pub(crate) host: HostConfig,
    /// Largest module, in bytes.
    pub(crate) module_bytes_max: usize,
    /// What tasks that name no definition run.
    pub(crate) task_definition: Option<Name>,
    /// What connections may take.
    pub(crate) limits: ConnectionLimits,
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
        for (index, mount) in self.mounts.iter().enumerate() {
            anyhow::ensure!(mount.dir.is_dir(), "--mount {}={}: there is no such folder", mount.name, mount.dir.display());
            anyhow::ensure!(!self.mounts[..index].iter().any(|other| other.name == mount.name), "--mount {}: given twice", mount.name);
        }
        let limits = self.limits()?;
        Ok(ServeConfig {
            listen: self.listen,
            data_dir: self.data_dir,
            host: HostConfig {
                slots: self.slots,
                cancel_grace: self.cancel_grace,
                lease: self.lease,
                night: self.night_window.in_zone(self.night_timezone),
                mounts: self.mounts,
                compile: self.compile,
            },
            module_bytes_max: self.module_mib_max as usize * 1024 * 1024,
            task_definition: self.task_definition,
            limits,
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
    fn mounts_are_named_folders() {
        assert!(args(&["--mount", "source=."]).unwrap().check().is_ok());
        assert!(args(&["--mount", "source=.", "--mount", "source=/"]).unwrap().check().is_err());
        assert!(args(&["--mount", "source=/no/such/folder"]).unwrap().check().is_err());
        assert!(args(&["--mount", "Source=."]).is_err());
        assert!(args(&["--mount", "source"]).is_err());
    }
}
