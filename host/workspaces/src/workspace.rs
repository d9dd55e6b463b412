//! One session's folder.

use std::ffi::OsStr;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};
use tower_domain::id::SessionId;

use crate::path::WorkspacePath;
use crate::{WorkspaceError, Workspaces, walk};

/// Folders that every workspace begins with: for what is brought in, for what comes out, and for skills that are given to it.
pub const FOLDERS: [&str; 3] = ["input", "output", ".skills"];

/// What a workspace may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files, folders and whatever else has a name.
    pub files: u64,
}

/// What a workspace holds. The folders that it begins with are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files, folders and whatever else has a name.
    pub files: u64,
}

impl Usage {
    /// Whether that is more than what is allowed.
    pub fn is_over(self, quota: Quota) -> bool {
        self.bytes > quota.bytes || self.files > quota.files
    }
}

/// What something in a workspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A link, a pipe, a socket or a device: listed, and never opened.
    Other,
}

/// Something in a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the workspace; what is no text is shown as well as it goes.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file.
    pub bytes: u64,
    /// Seconds since 1970 of its last change.
    pub modified_sec: i64,
}

/// Held while a workspace is made, restored, archived or taken away; by one at a time, over all hosts that share the folder.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// One session's folder.
#[derive(Debug, Clone)]
pub struct Workspace {
    all: Workspaces,
    user: String,
    session: String,
    quota: Quota,
}

impl Workspace {
    pub(crate) fn new(all: Workspaces, user: String, session: SessionId, quota: Quota) -> Self {
        Self { all, user, session: session.to_string(), quota }
    }

    /// Where it is, for whoever mounts it.
    pub fn path(&self) -> PathBuf {
        self.all.root().join(&self.user).join(&self.session)
    }

    /// What it may hold.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Waits until nobody else makes, restores, archives or takes it away.
    ///
    /// # Errors
    /// The lock's file cannot be used.
    pub fn lock(&self) -> Result<Lock, WorkspaceError> {
        let file = self.lock_file()?;
        file.lock().map_err(|source| WorkspaceError::Io { what: "locking a workspace".to_owned(), source })?;
        Ok(Lock { _file: file })
    }

    /// The same without waiting; nothing: somebody has it.
    ///
    /// # Errors
    /// The lock's file cannot be used.
    pub fn try_lock(&self) -> Result<Option<Lock>, WorkspaceError> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(source)) => Err(WorkspaceError::Io { what: "locking a workspace".to_owned(), source }),
        }
    }

    fn lock_file(&self) -> Result<File, WorkspaceError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self.all.locks()?, self.session.as_str(), flags, Mode::from_raw_mode(0o600));
        opened.map(File::from).map_err(WorkspaceError::io("opening a lock"))
    }

    /// Makes it, as far as it is not there.
    ///
    /// # Errors
    /// It cannot be made, or something else stands in its place.
    pub fn ensure(&self) -> Result<(), WorkspaceError> {
        let user = walk::make_folder(self.all.folder(), self.user.as_ref())?;
        let own = walk::make_folder(&user, self.session.as_ref())?;
        for name in FOLDERS {
            // A step may have put something else there; that is its own affair.
            if walk::stat(&own, name.as_ref())?.is_none() {
                walk::make_folder(&own, name.as_ref())?;
            }
        }
        Ok(())
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn exists(&self) -> Result<bool, WorkspaceError> {
        match self.folder() {
            Ok(_) => Ok(true),
            Err(WorkspaceError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn folder(&self) -> Result<OwnedFd, WorkspaceError> {
        walk::open_folder(self.user_folder()?, self.session.as_ref())
    }

    fn user_folder(&self) -> Result<OwnedFd, WorkspaceError> {
        walk::open_folder(self.all.folder(), self.user.as_ref())
    }

    pub(crate) fn all(&self) -> &Workspaces {
        &self.all
    }

    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    pub(crate) fn made_user_folder(&self) -> Result<OwnedFd, WorkspaceError> {
        walk::make_folder(self.all.folder(), self.user.as_ref())
    }

    /// The folder that a path ends in; made on the way with `make`.
    pub(crate) fn folder_of(&self, above: &[&OsStr], make: bool) -> Result<OwnedFd, WorkspaceError> {
        let mut folder = self.folder()?;
        for name in above {
            folder = if make { walk::make_folder(&folder, name)? } else { walk::open_folder(&folder, name)? };
        }
        Ok(folder)
    }

    /// What it holds. Counting ends soon after the quota is passed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn measure(&self) -> Result<Usage, WorkspaceError> {
        measure(&self.folder()?, self.quota)
    }

    /// The same; more than the quota is refused.
    ///
    /// # Errors
    /// It is over its quota, or cannot be read.
    pub fn within_quota(&self) -> Result<Usage, WorkspaceError> {
        let used = self.measure()?;
        if used.is_over(self.quota) { Err(WorkspaceError::Quota { used, quota: self.quota }) } else { Ok(used) }
    }

    /// What is in it, by path: up to `limit` after a path.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, WorkspaceError> {
        let mut entries = Vec::new();
        walk::over(&self.folder()?, &mut |found| {
            let path = found.path.to_string_lossy().into_owned();
            // Folders come before what is in them, and names in order: the order of segments.
            if after.is_none_or(|after| path.split('/').gt(after.split('/'))) {
                let kind = match found.kind {
                    FileType::RegularFile => EntryKind::File,
                    FileType::Directory => EntryKind::Folder,
                    _ => EntryKind::Other,
                };
                let bytes = if kind == EntryKind::File { u64::try_from(found.stat.st_size).unwrap_or(0) } else { 0 };
                entries.push(Entry { path, kind, bytes, modified_sec: found.stat.st_mtime });
            }
            Ok(if entries.len() >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(entries)
    }

    /// A plain file, and how long it is.
    ///
    /// # Errors
    /// It is not there, is not a plain file of the workspace's own, or cannot be read.
    pub fn read(&self, path: &WorkspacePath) -> Result<(File, u64), WorkspaceError> {
        let (above, last) = path.split();
        let opened = self.folder_of(&above, false).and_then(|folder| walk::open_file(folder, last));
        let (file, stat) = opened.map_err(|error| about(error, path))?;
        Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Takes a file away, or a folder with all that is in it.
    ///
    /// # Errors
    /// It is not there, or cannot be deleted.
    pub fn delete(&self, path: &WorkspacePath) -> Result<(), WorkspaceError> {
        let (above, last) = path.split();
        let folder = self.folder_of(&above, false).map_err(|error| about(error, path))?;
        if walk::stat(&folder, last)?.is_none() {
            return Err(WorkspaceError::NotFound(path.to_string()));
        }
        walk::remove(folder, last).map_err(|error| about(error, path))
    }

    /// Waits until all of it is on the disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn sync(&self) -> Result<(), WorkspaceError> {
        let folder = self.folder()?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&folder).map_err(WorkspaceError::io("making a workspace durable"))?;
        // Elsewhere there is no less than everything.
        #[cfg(not(target_os = "linux"))]
        {
            drop(folder);
            rustix::fs::sync();
        }
        Ok(())
    }

    /// Takes it away with all that is in it.
    ///
    /// # Errors
    /// It cannot be deleted.
    pub fn remove(&self) -> Result<(), WorkspaceError> {
        match self.user_folder() {
            Ok(user) => walk::remove(user, self.session.as_ref()),
            Err(WorkspaceError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// An error of one segment, about the whole path.
pub(crate) fn about(error: WorkspaceError, path: &WorkspacePath) -> WorkspaceError {
    match error {
        WorkspaceError::NotFound(_) => WorkspaceError::NotFound(path.to_string()),
        WorkspaceError::Refused { why, .. } => WorkspaceError::Refused { path: path.to_string(), why },
        other => other,
    }
}

/// What is in a folder, up to a little over the bounds.
pub(crate) fn measure(folder: &OwnedFd, most: Quota) -> Result<Usage, WorkspaceError> {
    let mut used = Usage::default();
    let whole = walk::over(folder, &mut |found| {
        if FOLDERS.iter().any(|name| OsStr::new(name) == found.path) && found.kind == FileType::Directory {
            return Ok(ControlFlow::Continue(()));
        }
        used.files += 1;
        if found.kind == FileType::RegularFile {
            // As long as it says it is: holes fill up when it is copied.
            used.bytes = used.bytes.saturating_add(u64::try_from(found.stat.st_size).unwrap_or(0));
        }
        Ok(if used.is_over(most) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if !whole {
        // What nobody can count is more than anybody may have.
        used.files = used.files.max(most.files.saturating_add(1));
    }
    Ok(used)
}
