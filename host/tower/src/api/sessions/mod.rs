//! `/sessions`.

mod begin;
mod close;
mod files;
mod find;
mod list;
mod stage;

use std::sync::Arc;

use tower_domain::id::SessionId;
use tower_store::StoreError;
use tower_workspaces::{WorkspaceError, WorkspacePath};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::problem::{Problem, codes};
use crate::sessions::stage::StageError;
use crate::sessions::{SessionError, Sessions};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(begin::begin_session, list::list_sessions))
        .routes(routes!(find::find_session, close::close_session))
        .routes(routes!(files::list_files, stage::put_file))
        .routes(routes!(files::read_file, files::delete_file))
}

/// Sessions of this host.
fn sessions(api: &Api) -> Result<&Arc<Sessions>, Problem> {
    api.sessions.as_ref().ok_or_else(|| Problem::new(&codes::UNAVAILABLE, "this host keeps no workspaces"))
}

/// A path in a workspace.
fn path(text: &str, pointer: &str) -> Result<WorkspacePath, Problem> {
    text.parse().map_err(|error: WorkspaceError| Problem::field(&codes::BAD_PATH, pointer, error.to_string()).with_hint("such as input/data.csv"))
}

/// No session with this id.
pub(super) fn no_such_session(id: SessionId) -> Problem {
    Problem::new(&codes::NO_SUCH_SESSION, format!("there is no session {id}")).with_hint("GET /api/v1/sessions lists them")
}

/// A session that is closed.
pub(super) fn session_closed(id: SessionId) -> Problem {
    Problem::new(&codes::SESSION_CLOSED, format!("session {id} is closed")).with_hint("POST /api/v1/sessions begins another")
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotFound(id) => no_such_session(id),
            SessionError::Closed(id) => session_closed(id),
            SessionError::Store(error) => error.into(),
            SessionError::Workspace(error) => error.into(),
            error @ SessionError::ArchiveLost(_) => Self::internal(&error),
        }
    }
}

impl From<WorkspaceError> for Problem {
    fn from(error: WorkspaceError) -> Self {
        let text = error.to_string();
        match error {
            WorkspaceError::BadPath { .. } => Self::new(&codes::BAD_PATH, text).with_hint("such as input/data.csv"),
            WorkspaceError::NotFound(_) => Self::new(&codes::NO_SUCH_FILE, text).with_hint("GET /api/v1/sessions/{id}/files lists them"),
            WorkspaceError::Refused { .. } => Self::new(&codes::FILE_REFUSED, text),
            WorkspaceError::Quota { .. } => Self::new(&codes::WORKSPACE_QUOTA, text).with_hint("delete files, or begin a session with a larger quota_bytes"),
            WorkspaceError::Io { what, source } => StoreError::Blobs { what, source }.into(),
        }
    }
}

impl From<StageError> for Problem {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Refused(why) => Self::new(&codes::STAGE_REFUSED, why),
            StageError::Failed(why) => Self::new(&codes::STAGE_FAILED, tower_domain::task::clean(&why, 2_000)),
            StageError::NoGit => Self::new(&codes::NO_GIT, error.to_string()).with_hint("install git where the host runs, or upload the files"),
            StageError::Workspace(error) => error.into(),
        }
    }
}
