//! What the operator set about containers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tower_domain::name::Name;

/// Where the engine listens unless something else is said.
const SOCKET: &str = "/var/run/docker.sock";

/// Which engine runs containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Docker {
    /// The machine's, whenever it answers.
    #[default]
    Auto,
    /// The machine's; without it the tower does not start.
    On,
    /// None.
    Off,
    /// The one at this socket; without it the tower does not start.
    At(PathBuf),
}

impl Docker {
    /// Its socket; none: there is to be no engine.
    pub fn socket(&self) -> Option<PathBuf> {
        match self {
            Self::Auto | Self::On => Some(SOCKET.into()),
            Self::At(path) => Some(path.clone()),
            Self::Off => None,
        }
    }

    /// Whether the tower does not start without it.
    pub fn is_needed(&self) -> bool {
        matches!(self, Self::On | Self::At(_))
    }
}

impl FromStr for Docker {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => match text.strip_prefix("unix://") {
                Some(path) if path.starts_with('/') => Ok(Self::At(path.into())),
                _ => Err(format!("`{text}`: `auto`, `on`, `off`, or a socket such as `unix:///var/run/docker.sock`")),
            },
        }
    }
}

/// What the operator set.
#[derive(Debug, Clone)]
pub struct DockerSettings {
    /// Which engine.
    pub docker: Docker,
    /// Whose containers these are: unique among the towers of an engine, and the same when this one starts again.
    pub owner: String,
    /// The folder with the socket that containers reach their step's host at; shown to all of them, and to nobody else.
    pub socket_dir: PathBuf,
    /// Folders that definitions may be granted as `capabilities.workspace`, by name.
    pub mounts: BTreeMap<Name, PathBuf>,
    /// Containers at the same time, those that wait for work included.
    pub containers_max: u32,
    /// Containers that wait ready for each definition that was used lately.
    pub warm: u32,
    /// How long a container is kept that has nothing to do, and a definition counts as used lately.
    pub idle: Duration,
    /// Whether definitions may grant their containers what the machine reaches.
    pub network: bool,
    /// Whether definitions may choose who their containers run as.
    pub users: bool,
    /// Most memory of one container, in bytes.
    pub memory_bytes_max: u64,
    /// Most processors of one container.
    pub cpus_max: f64,
    /// How long a container may take to be up.
    pub up_within: Duration,
    /// How long one that is up may take to answer `/health`.
    pub healthy_within: Duration,
}

impl DockerSettings {
    /// With what holds unless something else is set.
    pub fn new(docker: Docker, owner: impl Into<String>, socket_dir: impl Into<PathBuf>) -> Self {
        Self {
            docker,
            owner: owner.into(),
            socket_dir: socket_dir.into(),
            mounts: BTreeMap::new(),
            containers_max: 10,
            warm: 0,
            idle: Duration::from_secs(600),
            network: false,
            users: false,
            memory_bytes_max: 4 << 30,
            cpus_max: 2.0,
            up_within: Duration::from_secs(30),
            healthy_within: Duration::from_secs(60),
        }
    }
}
