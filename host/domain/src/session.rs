//! Sessions: a user's continuing work over several traces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::code_ref::Digest;
use crate::id::SessionId;
use crate::word_enum;

word_enum! {
    /// Where a session stands.
    pub enum SessionStatus {
        /// It was used of late, or is in use.
        Active = "ACTIVE",
        /// It was not used for a while: what is kept running for it may go.
        Idle = "IDLE",
        /// Its workspace is in the artifact store, and comes back with the next use.
        Archived = "ARCHIVED",
        /// It takes no more traces.
        Closed = "CLOSED",
    }
}

word_enum! {
    /// What a definition's code may do in the workspace of its trace's session.
    pub enum WorkspaceAccess {
        /// Read.
        Read = "READ",
        /// Read, and change.
        ReadWrite = "READ_WRITE",
    }
}

/// Bounds of what is said about sessions.
pub mod bounds {
    /// Bytes of `sdk_session_id`.
    pub const SDK_SESSION_ID_BYTES_MAX: usize = 1_024;
    /// Bytes of a session's own quota: 1 TiB.
    pub const QUOTA_BYTES_MAX: u64 = 1 << 40;
    /// Files, folders and whatever else has a name, of a session's own quota.
    pub const FILES_MAX: u64 = 10_000_000;
}

/// A user's continuing work: a workspace, and what outside code calls the same session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: String,
    /// What the code that goes on from trace to trace calls it. Not read here.
    pub sdk_session_id: Option<String>,
    /// For people and filters.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub status: SessionStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When a trace, a step or a file of it was last begun, ended or brought.
    pub last_used_at: Timestamp,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// Bytes that its workspace may hold, instead of what the host says.
    pub quota_bytes: Option<u64>,
    /// Files, folders and whatever else has a name that it may hold, likewise.
    pub files_max: Option<u64>,
    /// Bytes that it held when it was measured last.
    pub bytes: u64,
    /// Files, folders and so on, likewise.
    pub files: u64,
    /// Of an archived one: where its workspace is, piece by piece.
    pub archive: Vec<Digest>,
    /// Whether its files are gone for good.
    pub purged: bool,
}

/// A session as a step is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSession {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: String,
    /// What the code called it last.
    pub sdk_session_id: Option<String>,
    /// Its workspace, on this host.
    pub workspace: std::path::PathBuf,
    /// What the code may do there.
    pub access: WorkspaceAccess,
}
