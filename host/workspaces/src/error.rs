//! What can go wrong in a workspace.

use std::io;

use crate::{Quota, Usage};

/// A refusal, or a failure of the disk.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The path is not one within a workspace.
    #[error("`{path}` cannot be a path in a workspace: {why}")]
    BadPath {
        /// What was given, cut.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is nothing of this name.
    #[error("there is no `{0}` in the workspace")]
    NotFound(String),
    /// What is there is no plain file or folder of the workspace's own, or of the wrong kind.
    #[error("`{path}`: {why}")]
    Refused {
        /// What was named.
        path: String,
        /// Why it is left alone.
        why: &'static str,
    },
    /// It is, or would be, over its quota.
    #[error("the workspace holds, or would hold, {} bytes in {} files and folders, and {} bytes in {} are what it may", .used.bytes, .used.files, .quota.bytes, .quota.files)]
    Quota {
        /// What it holds, or would; counting ends at the bound.
        used: Usage,
        /// What it may.
        quota: Quota,
    },
    /// The disk failed.
    #[error("the workspace failed at {what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl WorkspaceError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let what = what.into();
        move |error| Self::Io { what, source: error.into() }
    }

    pub(crate) fn refused(path: impl Into<String>, why: &'static str) -> Self {
        Self::Refused { path: path.into(), why }
    }
}
