//! Settings of containers.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{ArgAction, Args};
use tower_domain::container::bounds::CPUS;
use tower_outside::docker::{Docker, DockerSettings};

use super::parse_duration;

/// How long a container may be kept that has nothing to do.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// How long a service may take to be healthy.
const READY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// Containers.
#[derive(Debug, Clone, Args)]
pub(crate) struct ContainerArgs {
    /// The Docker Engine that runs containers: `auto` (the one of this machine, whenever it answers), `on`, `off`, or its socket
    #[arg(long, help_heading = "Containers", env = "TOWER_DOCKER", default_value = "auto", value_name = "auto|on|off|unix:///PATH")]
    pub(crate) docker: Docker,
    /// Containers at the same time, those that wait for work included
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINERS_MAX", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) containers_max: u32,
    /// Containers that stand ready for each definition of a SERVICE that was used lately
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINERS_WARM", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub(crate) containers_warm: u32,
    /// How long a container is kept that has nothing to do
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINER_IDLE", default_value = "10m", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) container_idle: Duration,
    /// How long a SERVICE that is up may take to answer `GET /health` with 200
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINER_READY_WITHIN", default_value = "60s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) container_ready_within: Duration,
    /// Whether definitions may grant their containers the network that this machine has
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINER_NETWORK", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) container_network: bool,
    /// Whether definitions may choose the user that their containers run as
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINER_USERS", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) container_users: bool,
    /// Most memory of one container, in MiB
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINER_MIB_MAX", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(6..=65_536))]
    pub(crate) container_mib_max: u32,
    /// Most processors of one container
    #[arg(long, help_heading = "Containers", env = "TOWER_CONTAINER_CPUS_MAX", default_value_t = 2.0)]
    pub(crate) container_cpus_max: f64,
}

impl ContainerArgs {
    /// None at all.
    pub(crate) fn off() -> Self {
        Self {
            docker: Docker::Off,
            containers_max: 10,
            containers_warm: 0,
            container_idle: Duration::from_secs(600),
            container_ready_within: Duration::from_secs(60),
            container_network: false,
            container_users: false,
            container_mib_max: 4096,
            container_cpus_max: 2.0,
        }
    }

    /// Checks what no single flag can.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(IDLE.contains(&self.container_idle), "--container-idle {:?}: 1s to 24h", self.container_idle);
        anyhow::ensure!(READY.contains(&self.container_ready_within), "--container-ready-within {:?}: 1s to 1h", self.container_ready_within);
        let cpus = self.container_cpus_max;
        anyhow::ensure!(CPUS.contains(&cpus), "--container-cpus-max {cpus}: {} to {}", CPUS.start(), CPUS.end());
        Ok(())
    }

    /// As the executor takes them.
    pub(crate) fn settings(&self, owner: String, socket_dir: std::path::PathBuf) -> DockerSettings {
        DockerSettings {
            containers_max: self.containers_max,
            warm: self.containers_warm,
            idle: self.container_idle,
            healthy_within: self.container_ready_within,
            network: self.container_network,
            users: self.container_users,
            memory_bytes_max: u64::from(self.container_mib_max) << 20,
            cpus_max: self.container_cpus_max,
            ..DockerSettings::new(self.docker.clone(), owner, socket_dir)
        }
    }
}
