//! Containers in bodies: what a definition says of them, and those that there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tower_domain::container::ContainerSpec;
use tower_outside::docker::{ContainerRow, DockerLoad};
use utoipa::ToSchema;

use super::{ContainerMode, ContainerNetwork, ContainerProtocol, ContainerPull};

/// The container that a step runs in, for `docker://` alone.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Container)]
pub(crate) struct ContainerBody {
    /// `COMMAND`: the step comes on standard input, and standard output is its output. `SERVICE`: the container listens on `port`, answers
    /// `GET /health`, and takes steps at `POST /v1/tasks/execute`.
    pub(crate) protocol: ContainerProtocol,
    /// `EPHEMERAL`: one container a step. `PERSISTENT`, for a SERVICE: one for a step after the other, until it is idle for too long.
    pub(crate) mode: ContainerMode,
    /// Arguments in place of the image's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_items = 1, max_items = 64)]
    pub(crate) command: Option<Vec<String>>,
    /// Where a SERVICE listens.
    #[schema(minimum = 1, maximum = 65535)]
    pub(crate) port: u16,
    /// Variables of its environment; none begins with `TOWER_`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
    /// Memory, swap included; `resource_profile.memory_bytes` if absent, and 6 MiB at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 6291456, maximum = 68719476736_u64)]
    pub(crate) memory_bytes: Option<u64>,
    /// Processors; 1 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 64)]
    pub(crate) cpus: Option<f64>,
    /// Processes and threads; 64 if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 4096)]
    pub(crate) pids: Option<u32>,
    /// Bytes of `/tmp`, in memory and the one place that it may write to; 16 MiB if absent, 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1073741824)]
    pub(crate) tmp_bytes: Option<u64>,
    /// `NONE`: nothing but the tower. `OUTSIDE`, where the operator allows it: what the machine reaches.
    pub(crate) network: ContainerNetwork,
    /// Who it runs as, `uid:gid`, where the operator allows it; `65534:65534` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1000:1000")]
    pub(crate) user: Option<String>,
    /// When its image is fetched.
    pub(crate) pull: ContainerPull,
}

impl Default for ContainerBody {
    fn default() -> Self {
        ContainerSpec::default().into()
    }
}

impl From<ContainerSpec> for ContainerBody {
    fn from(spec: ContainerSpec) -> Self {
        let ContainerSpec { protocol, mode, command, port, env, memory_bytes, cpus, pids, tmp_bytes, network, user, pull } = spec;
        let (protocol, mode, network, pull) = (protocol.into(), mode.into(), network.into(), pull.into());
        Self { protocol, mode, command, port, env, memory_bytes, cpus, pids, tmp_bytes, network, user, pull }
    }
}

impl From<ContainerBody> for ContainerSpec {
    fn from(body: ContainerBody) -> Self {
        let ContainerBody { protocol, mode, command, port, env, memory_bytes, cpus, pids, tmp_bytes, network, user, pull } = body;
        let (protocol, mode, network, pull) = (protocol.into(), mode.into(), network.into(), pull.into());
        Self { protocol, mode, command, port, env, memory_bytes, cpus, pids, tmp_bytes, network, user, pull }
    }
}

/// A container of the host that answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = RunningContainer)]
pub(crate) struct ContainerRowBody {
    /// What the engine calls it.
    pub(crate) name: String,
    /// Its image, as the definition says.
    pub(crate) image: String,
    /// The content of the image, exactly.
    pub(crate) digest: String,
    /// What its steps run: `id@version`.
    pub(crate) definition: String,
    /// `EPHEMERAL`, `WARM` (stands ready for one step) or `PERSISTENT`.
    pub(crate) container_mode: String,
    /// As the engine has it, such as `running`.
    pub(crate) state: String,
    /// The task that it was made for; null: it takes steps as they come.
    pub(crate) task_id: Option<String>,
    /// The session that it belongs to.
    pub(crate) session_id: Option<String>,
    /// Whether it waits for work.
    pub(crate) idle: bool,
    /// When it was made, in seconds since the Unix epoch.
    pub(crate) created: i64,
}

impl From<ContainerRow> for ContainerRowBody {
    fn from(row: ContainerRow) -> Self {
        let ContainerRow { name, image, digest, definition, mode, state, task, session, idle, created } = row;
        Self { name, image, digest, definition, container_mode: mode, state, task_id: task, session_id: session, idle, created }
    }
}

/// What containers there are, on the host that answers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[schema(as = ContainerLoad)]
pub(crate) struct ContainerLoadBody {
    /// Whether the Docker Engine answers.
    pub(crate) up: bool,
    /// Most containers at the same time.
    pub(crate) max: u32,
    /// Containers that there are, those included that are being made or taken away.
    pub(crate) containers: u32,
    /// Steps that run in them.
    pub(crate) running: u32,
    /// Containers that stand ready for a step.
    pub(crate) warm: u32,
    /// Containers that are kept and wait for their next step.
    pub(crate) kept: u32,
}

impl From<DockerLoad> for ContainerLoadBody {
    fn from(DockerLoad { up, max, running, containers, warm, kept }: DockerLoad) -> Self {
        Self { up, max, containers, running, warm, kept }
    }
}

/// All containers of the host that answers.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = ContainerList)]
pub(crate) struct ContainerListBody {
    /// In numbers.
    pub(crate) load: ContainerLoadBody,
    /// By name.
    pub(crate) items: Vec<ContainerRowBody>,
}

/// Containers that are to stand ready.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WarmContainers)]
pub(crate) struct WarmBody {
    /// The definition.
    pub(crate) definition_id: String,
    /// How many, of a SERVICE that is EPHEMERAL; of others, only the image is fetched.
    #[serde(default = "one")]
    #[schema(maximum = 1000)]
    pub(crate) count: u32,
}

fn one() -> u32 {
    1
}

/// What will stand ready.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = WarmedContainers)]
pub(crate) struct WarmedBody {
    /// The definition, `id@version`.
    pub(crate) definition: String,
    /// Its image is there, and so many containers stand ready soon.
    pub(crate) ready: u32,
}
