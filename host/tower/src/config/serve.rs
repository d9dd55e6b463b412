//! Settings of the server.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use tower_domain::name::Name;

use super::parse_duration;

/// Shortest and longest lease: below, a busy disk would lose claims; above, a host that is gone would keep them for long.
const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// How long a claim holds unless something else is set.
pub(crate) const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// Settings as flags and environment variables.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, env = "TOWER_LISTEN", default_value = "127.0.0.1:8001")]
    pub(crate) listen: SocketAddr,
    /// Folder for the database and the modules; made if it is not there
    #[arg(long, env = "TOWER_DATA_DIR", default_value = ".tower")]
    pub(crate) data_dir: PathBuf,
    /// Steps that run at the same time
    #[arg(long, env = "TOWER_SLOTS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=8000))]
    pub(crate) slots: u32,
    /// How long a cancelled step, and at shutdown any step, may go on
    #[arg(long, env = "TOWER_CANCEL_GRACE", default_value = "5s", value_parser = parse_duration)]
    pub(crate) cancel_grace: Duration,
    /// How long a claim holds without a renewal; it is renewed three times as often
    #[arg(long, env = "TOWER_LEASE", default_value = "30s", value_parser = parse_duration)]
    pub(crate) lease: Duration,
    /// A folder that definitions may be granted by this name, read-only (repeatable)
    #[arg(long = "mount", env = "TOWER_MOUNTS", value_name = "NAME=DIR", value_delimiter = ',')]
    pub(crate) mounts: Vec<Mount>,
    /// Largest module that is taken, in MiB
    #[arg(long, env = "TOWER_MODULE_MIB_MAX", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) module_mib_max: u32,
    /// Connections that are served at the same time
    #[arg(long, env = "TOWER_CONNECTIONS_MAX", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) connections_max: u32,
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
    /// Connections at the same time.
    pub(crate) connections_max: usize,
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
    /// Folders that may be granted.
    pub(crate) mounts: Vec<Mount>,
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
        Ok(ServeConfig {
            listen: self.listen,
            data_dir: self.data_dir,
            host: HostConfig { slots: self.slots, cancel_grace: self.cancel_grace, lease: self.lease, mounts: self.mounts },
            module_bytes_max: self.module_mib_max as usize * 1024 * 1024,
            connections_max: self.connections_max as usize,
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
