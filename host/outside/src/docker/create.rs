//! How a container is made: what it gets, and everything that it does not.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, NetworkCreateRequest, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use tower_domain::container::{ContainerSpec, Network, Protocol};
use tower_domain::definition::Definition;

use super::images::Image;

/// Whose containers these are.
pub const OWNER: &str = "command-tower.owner";
/// The task that one was made for; none: it takes steps as they come.
pub const TASK: &str = "command-tower.task";
/// The fence of that attempt.
pub const FENCE: &str = "command-tower.fence";
/// What its steps run.
pub const DEFINITION: &str = "command-tower.definition";
/// The session that it belongs to.
pub const SESSION: &str = "command-tower.session";
/// `EPHEMERAL`, `WARM` or `PERSISTENT`.
pub const MODE: &str = "command-tower.container_mode";
/// What its image is called in the definition.
pub const IMAGE: &str = "command-tower.image";
/// The bytes of the image, exactly.
pub const DIGEST: &str = "command-tower.digest";

/// Where containers see the folder of the socket.
pub const SOCKET_DIR: &str = "/run/tower";
/// Where they see the socket: all four powers, and nothing else.
pub const SOCKET: &str = "/run/tower/tower.sock";
/// The socket's name in its folder.
pub const SOCKET_FILE: &str = "tower.sock";

/// Open files of a process.
const FILES_MAX: i64 = 1_024;

/// Bytes of the shared memory of a service.
const SHARED_MEMORY_BYTES: i64 = 1 << 20;

/// A folder that a container sees at `/workspace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Where it is.
    pub dir: PathBuf,
    /// Whether the container may only look.
    pub read_only: bool,
}

/// What one is made of.
pub(crate) struct Plan<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) spec: &'a ContainerSpec,
    pub(crate) image: &'a Image,
    pub(crate) owner: &'a str,
    pub(crate) socket_dir: &'a Path,
    pub(crate) mode: &'static str,
    /// Further labels.
    pub(crate) labels: Vec<(&'static str, String)>,
    /// Further variables.
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) workspace: Option<Workspace>,
}

/// The networks of a tower: `inside` reaches nothing, `outside` what the machine reaches. In neither do containers reach each other.
pub(crate) fn network_name(owner: &str, network: Network) -> String {
    let which = match network {
        Network::None => "inside",
        Network::Outside => "outside",
    };
    format!("tower-{owner}-{which}")
}

/// The network that a container needs; none: it has none at all.
pub(crate) fn network(owner: &str, spec: &ContainerSpec) -> Option<NetworkCreateRequest> {
    if spec.protocol == Protocol::Command && spec.network == Network::None {
        return None;
    }
    Some(NetworkCreateRequest {
        name: network_name(owner, spec.network),
        driver: Some("bridge".to_owned()),
        internal: Some(spec.network == Network::None),
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
        labels: Some(HashMap::from([(OWNER.to_owned(), owner.to_owned())])),
        ..Default::default()
    })
}

/// What the engine is asked for.
pub(crate) fn request(plan: Plan<'_>) -> ContainerCreateBody {
    let Plan { definition, spec, image, owner, .. } = &plan;
    let mut labels = HashMap::from([
        (OWNER.to_owned(), (*owner).to_owned()),
        (DEFINITION.to_owned(), format!("{}@{}", definition.id, definition.version)),
        (MODE.to_owned(), plan.mode.to_owned()),
        (IMAGE.to_owned(), image.name.clone()),
        (DIGEST.to_owned(), image.id.clone()),
    ]);
    labels.extend(plan.labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let own = [("TOWER_SOCKET", SOCKET.to_owned()), ("TOWER_PORT", spec.port.to_string())];
    let env = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
    let env = env.chain(own.iter().chain(&plan.env).map(|(name, value)| format!("{name}={value}")));
    let is_command = spec.protocol == Protocol::Command;
    ContainerCreateBody {
        image: Some(image.id.clone()),
        cmd: spec.command.clone(),
        env: Some(env.collect()),
        user: Some(spec.user().to_owned()),
        labels: Some(labels),
        attach_stdin: Some(is_command),
        open_stdin: Some(is_command),
        stdin_once: Some(is_command),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        host_config: Some(hardened(&plan)),
        ..Default::default()
    }
}

fn hardened(plan: &Plan<'_>) -> HostConfig {
    let spec = plan.spec;
    let memory = i64::try_from(spec.memory(&plan.definition.spec.resource_profile)).unwrap_or(i64::MAX);
    let network = network(plan.owner, spec).map_or_else(|| "none".to_owned(), |network| network.name);
    let ulimit = |name: &str, most| ResourcesUlimits { name: Some(name.to_owned()), soft: Some(most), hard: Some(most) };
    let tmp = match spec.tmp() {
        0 => HashMap::new(),
        bytes => HashMap::from([("/tmp".to_owned(), format!("rw,noexec,nosuid,nodev,mode=1777,size={bytes}"))]),
    };
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        memory: Some(memory),
        // With swap: the same again, so that there is none.
        memory_swap: Some(memory),
        nano_cpus: Some(nano(spec.cpus())),
        pids_limit: Some(spec.pids().into()),
        ulimits: Some(vec![ulimit("nofile", FILES_MAX), ulimit("core", 0)]),
        network_mode: Some(network),
        ipc_mode: Some(if spec.protocol == Protocol::Command { "none" } else { "private" }.to_owned()),
        shm_size: Some(SHARED_MEMORY_BYTES),
        tmpfs: Some(tmp),
        mounts: Some(mounts(plan)),
        // It is read how it ended before it is taken away.
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        publish_all_ports: Some(false),
        // Its lines go to the task's log, which is bounded; the engine's own would fill the disk.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        // When memory is short, a step goes before the host.
        oom_score_adj: Some(500),
        ..Default::default()
    }
}

fn mounts(plan: &Plan<'_>) -> Vec<Mount> {
    let bind = |source: &Path, target: &str, read_only| Mount {
        source: Some(source.display().to_string()),
        target: Some(target.to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(read_only),
        ..Default::default()
    };
    // A socket in a read-only folder can be spoken to all the same, and not be replaced.
    let socket = bind(plan.socket_dir, SOCKET_DIR, true);
    let workspace = plan.workspace.as_ref().map(|workspace| bind(&workspace.dir, "/workspace", workspace.read_only));
    std::iter::once(socket).chain(workspace).collect()
}

/// Processors in billionths, as the engine counts them.
#[expect(clippy::cast_possible_truncation, reason = "definitions have at most 64 processors")]
fn nano(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}
