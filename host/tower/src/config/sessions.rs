//! Settings of sessions and their workspaces.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tower_workspaces::Settings;

use super::parse_duration;
use crate::sessions::Policies;
use crate::sessions::stage::Source;

/// Shortest time of a policy: below, nothing would be worth keeping.
const POLICY_MIN: Duration = Duration::from_millis(500);

/// What sessions may take, and what becomes of those that nobody uses.
#[derive(Debug, Clone, Args)]
pub(crate) struct SessionArgs {
    /// Where the workspaces of sessions are, which hosts of one database must share; default: `workspaces` in the data folder
    #[arg(long, help_heading = "Sessions", env = "TOWER_WORKSPACES", value_name = "DIR")]
    pub(crate) workspaces: Option<PathBuf>,
    /// What a workspace may hold unless its session says otherwise, in MiB
    #[arg(long, help_heading = "Sessions", env = "TOWER_WORKSPACE_QUOTA", value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) workspace_quota: u32,
    /// How many files and folders a workspace may hold unless its session says otherwise
    #[arg(long, help_heading = "Sessions", env = "TOWER_WORKSPACE_FILES_MAX", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) workspace_files_max: u32,
    /// Not used for so long, a session is idle: what is kept running for it may go
    #[arg(long, help_heading = "Sessions", env = "TOWER_SESSION_IDLE", default_value = "24h", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) session_idle: Duration,
    /// Not used for so long, a session's workspace goes to the artifact store until it is used again
    #[arg(long, help_heading = "Sessions", env = "TOWER_ARCHIVE_AFTER", default_value = "7d", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) archive_after: Duration,
    /// So long after a session was closed, its files are removed
    #[arg(long, help_heading = "Sessions", env = "TOWER_CLOSED_KEPT", default_value = "24h", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) closed_kept: Duration,
    /// An address below which files may be fetched into workspaces, or with file:// git repositories (repeatable); default: none
    #[arg(long = "stage-from", help_heading = "Sessions", env = "TOWER_STAGE_FROM", value_name = "URL", value_delimiter = ',')]
    pub(crate) stage_from: Vec<Source>,
}

impl Default for SessionArgs {
    fn default() -> Self {
        Self {
            workspaces: None,
            workspace_quota: 1024,
            workspace_files_max: 100_000,
            session_idle: Duration::from_secs(86_400),
            archive_after: Duration::from_secs(7 * 86_400),
            closed_kept: Duration::from_secs(86_400),
            stage_from: Vec::new(),
        }
    }
}

impl SessionArgs {
    /// Checks what no reader of a single flag does.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for (flag, duration) in [("--session-idle", self.session_idle), ("--archive-after", self.archive_after)] {
            anyhow::ensure!(duration >= POLICY_MIN, "{flag} {duration:?}: at least 500ms");
        }
        anyhow::ensure!(
            self.archive_after >= self.session_idle,
            "--archive-after {:?} is shorter than --session-idle {:?}: only idle sessions are archived",
            self.archive_after,
            self.session_idle
        );
        Ok(())
    }

    /// As workspaces take them.
    pub(crate) fn settings(&self) -> Settings {
        Settings { quota_bytes: u64::from(self.workspace_quota) << 20, files_max: self.workspace_files_max.into() }
    }

    /// As the keeper takes them.
    pub(crate) fn policies(&self) -> Policies {
        Policies { idle_after: self.session_idle, archive_after: self.archive_after, closed_kept: self.closed_kept }
    }
}
