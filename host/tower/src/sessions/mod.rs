//! Sessions on this host: their rows in the database and their folders, kept in step.
//!
//! - this file: entering and leaving a workspace, for steps and for the API
//! - `archive`: a workspace in the artifact store, and back
//! - `watch`: a workspace that a step fills while it runs
//! - `keeper`: what happens to sessions that nobody uses
//! - [`stage`]: files from addresses and git repositories that the operator allows
//!
//! Whoever makes, restores, archives or removes a workspace holds its lock and reads the session's row under it. Whoever uses it has
//! touched the row under the lock, or has a trace that has not ended; archiving looks for both in its last transaction.

mod archive;
mod keeper;
pub(crate) mod stage;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use tower_domain::clock::Clock;
use tower_domain::codes;
use tower_domain::id::SessionId;
use tower_domain::session::{Session, SessionStatus, StepSession, WorkspaceAccess};
use tower_domain::step::{SessionKeeper, StepFailure, WorkspaceProvider};
use tower_store::{StoreError, Stores};
use tower_workspaces::{Lock, Quota, Usage, Workspace, WorkspaceError, Workspaces};

pub(crate) use keeper::{Policies, keep};
use watch::Watches;

/// Why a session's workspace cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// There is none.
    #[error("there is no session {0}")]
    NotFound(SessionId),
    /// It is closed.
    #[error("session {0} is closed")]
    Closed(SessionId),
    /// The database or the artifact store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The workspace refused or failed.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// A piece of its archive is not in the artifact store.
    #[error("the archive of session {0} is not whole: a piece of it is missing or damaged")]
    ArchiveLost(SessionId),
}

/// Sessions of this host.
#[derive(Clone)]
pub(crate) struct Sessions {
    pub(crate) stores: Stores,
    pub(crate) workspaces: Workspaces,
    pub(crate) clock: Arc<dyn Clock>,
    /// Those that keep something running for sessions.
    pub(crate) keepers: Vec<Arc<dyn SessionKeeper>>,
    /// Who looks at which workspaces just now.
    pub(crate) watches: Watches,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("workspaces", &self.workspaces).finish_non_exhaustive()
    }
}

/// Does what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, WorkspaceError> + Send + 'static) -> Result<T, WorkspaceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(WorkspaceError::Io { what: "working on a workspace".to_owned(), source: std::io::Error::other(error) }),
    }
}

impl Sessions {
    /// The folder of a session.
    pub(crate) fn workspace(&self, session: &Session) -> Workspace {
        let settings = self.workspaces.settings();
        let quota = Quota { bytes: session.quota_bytes.unwrap_or(settings.quota_bytes), files: session.files_max.unwrap_or(settings.files_max) };
        self.workspaces.of(&session.user_id, session.id, Some(quota))
    }

    /// A session with its folder, made or brought back, and noted as used.
    pub(crate) async fn enter(&self, id: SessionId) -> Result<(Session, Workspace), SessionError> {
        let known = self.stores.sessions.find(id).await?.ok_or(SessionError::NotFound(id))?;
        let workspace = self.workspace(&known);
        let _lock = self.lock(&workspace).await?;
        // As it is now that nobody else can archive it.
        let session = self.stores.sessions.touch(id, self.clock.now()).await?.ok_or(SessionError::NotFound(id))?;
        match session.status {
            SessionStatus::Closed => return Err(SessionError::Closed(id)),
            SessionStatus::Archived => {
                self.restore(&session, &workspace).await?;
                let restored = workspace.clone();
                // On the disk, before it is nowhere else.
                blocking(move || restored.sync()).await?;
                self.stores.sessions.restored(id).await?;
                self.try_discard(id, &session.archive).await;
            }
            SessionStatus::Active | SessionStatus::Idle => {
                let workspace = workspace.clone();
                blocking(move || workspace.ensure()).await?;
            }
        }
        Ok((session, workspace))
    }

    /// Measures a workspace, and notes what it holds.
    pub(crate) async fn measure(&self, id: SessionId, workspace: &Workspace) -> Result<Usage, SessionError> {
        let measured = workspace.clone();
        let used = blocking(move || measured.measure()).await?;
        self.stores.sessions.measured(id, used.bytes, used.files, self.clock.now()).await?;
        Ok(used)
    }

    async fn lock(&self, workspace: &Workspace) -> Result<Lock, WorkspaceError> {
        let workspace = workspace.clone();
        blocking(move || workspace.lock()).await
    }
}

fn failure(error: &SessionError) -> StepFailure {
    let message = crate::api::problem::causes(error);
    match error {
        SessionError::NotFound(_) | SessionError::Closed(_) | SessionError::ArchiveLost(_) => StepFailure::fatal(codes::SESSION_GONE.name, message),
        SessionError::Workspace(WorkspaceError::Quota { .. }) => StepFailure::fatal(codes::WORKSPACE_QUOTA.name, message),
        SessionError::Store(_) | SessionError::Workspace(_) => StepFailure::retryable(codes::HOST_TROUBLE.name, message),
    }
}

#[async_trait]
impl WorkspaceProvider for Sessions {
    async fn open(&self, session: SessionId, access: WorkspaceAccess) -> Result<StepSession, StepFailure> {
        let (session, workspace) = self.enter(session).await.map_err(|error| failure(&error))?;
        if access == WorkspaceAccess::ReadWrite {
            let workspace = workspace.clone();
            blocking(move || workspace.within_quota()).await.map_err(|error| failure(&error.into()))?;
        }
        let Session { id, user_id, sdk_session_id, .. } = session;
        Ok(StepSession { id, user_id, sdk_session_id, workspace: workspace.path(), access })
    }

    async fn filled(&self, session: &StepSession) -> StepFailure {
        match session.access {
            WorkspaceAccess::Read => std::future::pending().await,
            WorkspaceAccess::ReadWrite => failure(&self.over_quota(session.id).await.into()),
        }
    }

    async fn close(&self, session: &StepSession) -> Result<(), StepFailure> {
        if session.access == WorkspaceAccess::Read {
            return Ok(());
        }
        let measured = async {
            let known = self.stores.sessions.find(session.id).await?.ok_or(SessionError::NotFound(session.id))?;
            let workspace = self.workspace(&known);
            let used = self.measure(session.id, &workspace).await?;
            let quota = workspace.quota();
            if used.is_over(quota) { Err(WorkspaceError::Quota { used, quota }.into()) } else { Ok(()) }
        };
        measured.await.map_err(|error: SessionError| failure(&error))
    }
}
