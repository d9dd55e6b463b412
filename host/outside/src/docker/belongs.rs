//! What a container is part of, beside its step: the session of its trace.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tower_domain::id::SessionId;
use tower_domain::session::{StepSession, WorkspaceAccess};
use tower_domain::step::Step;

use super::create::Workspace;

/// What a container is part of, beside its step.
#[derive(Debug, Clone, Default)]
pub struct Belongs {
    /// The session: persistent containers are one session's.
    pub session: Option<SessionId>,
    /// The folder at `/workspace`.
    pub workspace: Option<Workspace>,
}

impl Belongs {
    /// What a step's trace has, as far as its definition is granted it.
    pub(super) fn of(step: &Step) -> Self {
        let Some(session) = &step.session else { return Self::default() };
        let read_only = session.access == WorkspaceAccess::Read;
        if !read_only {
            open_to_containers(session);
        }
        Self { session: Some(session.id), workspace: Some(Workspace { dir: session.workspace.clone(), read_only }) }
    }
}

/// Code in a container runs as nobody, and is to write all the same. Nobody else on the machine comes so far: the folder of all workspaces is
/// its owner's alone.
fn open_to_containers(session: &StepSession) {
    for name in ["", "input", "output", ".skills"] {
        let folder: &Path = &session.workspace.join(name);
        if let Err(error) = set_permissions(folder, Permissions::from_mode(0o777)) {
            tracing::warn!(%error, session.id = %session.id, folder = name, "a workspace cannot be opened to containers");
        }
    }
}
