//! Sessions and their files in bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::id::SessionId;
use tower_domain::session::Session;
use tower_workspaces::{Entry, EntryKind};
use utoipa::ToSchema;

use super::SessionStatus;
use crate::api::extract::optional_fields;

/// A session to begin.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSession {
    /// Whose it is. Every trace of it is this user's.
    pub(crate) user_id: String,
    /// What the code that goes on from trace to trace calls it; not read here.
    #[serde(default)]
    #[schema(max_length = 1024)]
    pub(crate) sdk_session_id: Option<String>,
    /// For people and filters.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Bytes that its workspace may hold. Absent: what the host says (`--workspace-quota`).
    #[serde(default)]
    pub(crate) quota_bytes: Option<u64>,
    /// Files and folders that it may hold. Absent: what the host says (`--workspace-files-max`).
    #[serde(default)]
    pub(crate) files_max: Option<u64>,
}

/// A user's continuing work over several traces.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionBody {
    #[schema(value_type = String, format = "ulid")]
    pub(crate) session_id: SessionId,
    pub(crate) user_id: String,
    /// What the code calls it: given at its beginning, or left by the last step that said one.
    pub(crate) sdk_session_id: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) status: SessionStatus,
    /// Bytes that its workspace held when it was measured last: after a step that could write, and after a file came or went.
    pub(crate) bytes: u64,
    /// Files and folders, likewise.
    pub(crate) files: u64,
    /// What it may hold; null: what the host says.
    pub(crate) quota_bytes: Option<u64>,
    /// Likewise.
    pub(crate) files_max: Option<u64>,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// When a trace, a step or a file of it was last begun, ended or brought.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) last_used_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) closed_at: Option<Timestamp>,
}

impl From<Session> for SessionBody {
    fn from(session: Session) -> Self {
        Self {
            session_id: session.id,
            user_id: session.user_id,
            sdk_session_id: session.sdk_session_id,
            labels: session.labels,
            status: session.status.into(),
            bytes: session.bytes,
            files: session.files,
            quota_bytes: session.quota_bytes,
            files_max: session.files_max,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            closed_at: session.closed_at,
        }
    }
}

/// What something in a workspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum FileKind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A link, a pipe or whatever else: listed, and never opened.
    Other,
}

/// Something in a workspace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkspaceFile)]
pub(crate) struct FileBody {
    /// From the workspace.
    pub(crate) path: String,
    pub(crate) kind: FileKind,
    pub(crate) bytes: u64,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) modified_at: Timestamp,
}

impl From<Entry> for FileBody {
    fn from(entry: Entry) -> Self {
        let kind = match entry.kind {
            EntryKind::File => FileKind::File,
            EntryKind::Folder => FileKind::Folder,
            EntryKind::Other => FileKind::Other,
        };
        let modified_at = Timestamp::from_micros(entry.modified_sec.saturating_mul(1_000_000).clamp(0, 253_402_300_799_000_000));
        Self { path: entry.path, kind, bytes: entry.bytes, modified_at }
    }
}

/// Files to be fetched from elsewhere: from an address, or from a git repository.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageFiles {
    /// Where they are to be: a file, or for a repository a folder that is not there yet. Such as `input/data.csv`.
    pub(crate) path: String,
    /// The file at this address. Sources are allowed by the operator (`--stage-from`); redirects are not followed.
    #[serde(default)]
    pub(crate) from_url: Option<String>,
    /// A git repository.
    #[serde(default, deserialize_with = "optional_fields")]
    pub(crate) from_git: Option<FromGit>,
}

/// A git repository to fetch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FromGit {
    /// Its address. Sources are allowed by the operator (`--stage-from`).
    pub(crate) url: String,
    /// A branch or a tag. Absent: the repository's default.
    #[serde(default, rename = "ref")]
    pub(crate) reference: Option<String>,
    /// Commits of its history.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1000)]
    pub(crate) depth: u32,
}

fn one() -> u32 {
    1
}

/// What was brought into a workspace.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct FilesStaged {
    /// Where it is.
    pub(crate) path: String,
    /// Bytes that the workspace holds with it.
    pub(crate) workspace_bytes: u64,
    /// Files and folders that it holds.
    pub(crate) workspace_files: u64,
}
