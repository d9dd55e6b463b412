//! Folders of sessions: `<root>/<user>/<session>/{input,output,.skills}`.
//!
//! Whoever has a workspace read-write is not trusted: it may hold symbolic links to anywhere, hard links, pipes, names that are no text,
//! and folders in folders without end. Nothing here follows a link, and nothing is opened by a path of several segments: every step
//! is one segment below a folder that is open already, so that whatever is swapped meanwhile leads nowhere else.
//!
//! In reading order:
//!
//! - [`path`]: what may be named within a workspace, and what a user's folder is called
//! - [`walk`]: going down one segment at a time, over everything, and taking everything away
//! - [`workspace`]: one session's folder: measured, listed, read, deleted
//! - [`incoming`]: what is brought in, checked against the quota while it comes
//! - [`archive`]: the whole as one tar and back, without what `.towerignore` names
//!
//! All calls block.

pub mod archive;
mod error;
pub mod incoming;
pub mod path;
pub mod walk;
pub mod workspace;

#[cfg(test)]
mod tests;

pub use error::WorkspaceError;
pub use incoming::Incoming;
pub use path::WorkspacePath;
pub use workspace::{Entry, EntryKind, Lock, Quota, Usage, Workspace};

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};
use tower_domain::id::SessionId;

/// Where what is being brought in lies until it is whole. No user's folder has a name that begins like this.
const INCOMING: &str = ".incoming";
/// Where the locks of sessions are.
const LOCKS: &str = ".locks";
/// What was left lying half brought in for so long is nobody's any more.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// What holds for every workspace unless a session has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of all files together.
    pub quota_bytes: u64,
    /// Files, folders and whatever else has a name, together.
    pub files_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { quota_bytes: 1 << 30, files_max: 100_000 }
    }
}

/// The folder of all workspaces. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Workspaces {
    root: PathBuf,
    settings: Settings,
    folder: Arc<OwnedFd>,
}

impl Workspaces {
    /// Opens the folder, and makes it if it is not there: for this user alone.
    ///
    /// # Errors
    /// It cannot be made, opened or written.
    pub fn open(root: &Path, settings: Settings) -> Result<Self, WorkspaceError> {
        let failed = |what: &str, source| WorkspaceError::Io { what: format!("{what} {}", root.display()), source };
        if !root.is_dir() {
            std::fs::create_dir_all(root).map_err(|error| failed("making", error))?;
            let only_us = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
            std::fs::set_permissions(root, only_us).map_err(|error| failed("closing to others", error))?;
        }
        // What is mounted in containers is named by its whole path.
        let root = root.canonicalize().map_err(|error| failed("finding", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&root, flags, Mode::empty()).map_err(|error| failed("opening", error.into()))?;
        for name in [INCOMING, LOCKS] {
            walk::make_folder(&folder, name.as_ref())?;
        }
        let this = Self { root, settings, folder: Arc::new(folder) };
        this.tidy()?;
        Ok(this)
    }

    /// What holds unless a session has its own.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Where all of them are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The workspace of a session. Touches nothing; [`Workspace::ensure`] makes it.
    pub fn of(&self, user: &str, session: SessionId, quota: Option<Quota>) -> Workspace {
        let quota = quota.unwrap_or(Quota { bytes: self.settings.quota_bytes, files: self.settings.files_max });
        Workspace::new(self.clone(), path::user_folder(user), session, quota)
    }

    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Takes away what a process left half brought in when it died.
    #[expect(clippy::disallowed_methods, reason = "files are compared with the times that the file system gives to others")]
    fn tidy(&self) -> Result<(), WorkspaceError> {
        let incoming = walk::open_folder(&self.folder, INCOMING.as_ref())?;
        let long_ago = SystemTime::now().checked_sub(LEFT_OVER_AFTER).and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
        for name in walk::names(&incoming)? {
            let is_old = walk::stat(&incoming, &name)?.is_some_and(|stat| u64::try_from(stat.st_mtime).unwrap_or(0) < long_ago.as_secs());
            if is_old {
                walk::remove(&incoming, &name)?;
            }
        }
        Ok(())
    }

    /// A file that is not there yet, to be brought in.
    pub(crate) fn new_file(&self) -> Result<(OwnedFd, String, File), WorkspaceError> {
        let incoming = walk::open_folder(&self.folder, INCOMING.as_ref())?;
        let (name, file) = walk::new_file(&incoming)?;
        Ok((incoming, name, file))
    }

    /// A folder that is not there yet, to be filled by somebody else and then taken in with [`Workspace::adopt`]. Its path, and its name.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new_folder(&self) -> Result<(PathBuf, String), WorkspaceError> {
        let incoming = walk::open_folder(&self.folder, INCOMING.as_ref())?;
        let name = walk::new_folder(&incoming)?;
        Ok((self.root.join(INCOMING).join(&name), name))
    }

    /// Takes away a folder that was made with [`Self::new_folder`] and not taken in.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn drop_folder(&self, name: &str) -> Result<(), WorkspaceError> {
        walk::remove(&walk::open_folder(&self.folder, INCOMING.as_ref())?, name.as_ref())
    }

    /// What a folder that was made with [`Self::new_folder`] holds by now, as far as the bounds: bytes and names.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn measure_folder(&self, name: &str, most: Quota) -> Result<Usage, WorkspaceError> {
        let incoming = walk::open_folder(&self.folder, INCOMING.as_ref())?;
        workspace::measure(&walk::open_folder(&incoming, name.as_ref())?, most)
    }

    pub(crate) fn incoming(&self) -> Result<OwnedFd, WorkspaceError> {
        walk::open_folder(&self.folder, INCOMING.as_ref())
    }

    pub(crate) fn locks(&self) -> Result<OwnedFd, WorkspaceError> {
        walk::open_folder(&self.folder, LOCKS.as_ref())
    }
}
