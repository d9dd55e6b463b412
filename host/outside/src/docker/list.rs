//! What containers there are.

use std::sync::atomic::Ordering;

use super::engine::EngineError;
use super::{DockerExecutor, create};

/// A container, for people.
#[derive(Debug, Clone)]
pub struct ContainerRow {
    /// What the engine calls it.
    pub name: String,
    /// The image, as its definition says.
    pub image: String,
    /// The content of the image.
    pub digest: String,
    /// What its steps run, `id@version`.
    pub definition: String,
    /// `EPHEMERAL`, `WARM` or `PERSISTENT`.
    pub mode: String,
    /// As the engine has it: `created`, `running`, `exited`.
    pub state: String,
    /// The task that it was made for.
    pub task: Option<String>,
    /// The session that it belongs to.
    pub session: Option<String>,
    /// Whether it waits for work.
    pub idle: bool,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

/// What containers there are, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DockerLoad {
    /// Whether the engine answers.
    pub up: bool,
    /// Most containers at the same time.
    pub max: u32,
    /// Steps that run.
    pub running: u32,
    /// Containers that there are.
    pub containers: u32,
    /// Containers that wait ready.
    pub warm: u32,
    /// Containers that are kept for the next step.
    pub kept: u32,
}

impl DockerExecutor {
    /// What there is, in numbers.
    pub fn load(&self) -> DockerLoad {
        let (warm, kept) = self.yard.pool.waiting();
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        DockerLoad {
            up: self.yard.is_up(),
            max: self.yard.settings.containers_max,
            running: self.yard.running.load(Ordering::Relaxed),
            containers: count(self.yard.names.count()),
            warm: count(warm.len()),
            kept: count(kept.len()),
        }
    }

    /// All containers of this host.
    pub async fn list(&self) -> Result<Vec<ContainerRow>, EngineError> {
        let (warm, kept) = self.yard.pool.waiting();
        let found = self.yard.engine()?.list(format!("{}={}", create::OWNER, self.yard.settings.owner)).await?;
        let row = |found: bollard::models::ContainerSummary| {
            let name = found.names.unwrap_or_default().first().map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default();
            let mut labels = found.labels.unwrap_or_default();
            let mut label = |name: &str| labels.remove(name);
            ContainerRow {
                image: label(create::IMAGE).unwrap_or_default(),
                digest: label(create::DIGEST).unwrap_or_default(),
                definition: label(create::DEFINITION).unwrap_or_default(),
                mode: label(create::MODE).unwrap_or_default(),
                task: label(create::TASK),
                session: label(create::SESSION),
                state: found.state.map(|state| state.to_string()).unwrap_or_default(),
                idle: warm.contains(&name) || kept.contains(&name),
                created: found.created.unwrap_or_default(),
                name,
            }
        };
        let mut rows: Vec<ContainerRow> = found.into_iter().map(row).collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(rows)
    }
}
