//! What is brought into a workspace: it lies elsewhere until it is whole, and is held against the quota while it comes.

use std::fs::File;
use std::io::Write;

use rustix::fs::FileType;

use crate::path::WorkspacePath;
use crate::workspace::{Quota, Usage, about, measure};
use crate::{Workspace, WorkspaceError, walk};

/// A file on its way in. Dropped before its end, it leaves nothing.
#[derive(Debug)]
pub struct Incoming {
    workspace: Workspace,
    path: WorkspacePath,
    file: Option<File>,
    folder: std::os::fd::OwnedFd,
    name: String,
    used: Usage,
    written: u64,
}

impl Workspace {
    /// Begins to bring a file in; one that is there is replaced at the end.
    ///
    /// # Errors
    /// The workspace is over its quota, or would be with one file more; the path is taken by a folder; the disk failed.
    pub fn begin(&self, path: &WorkspacePath) -> Result<Incoming, WorkspaceError> {
        let used = self.within_quota()?;
        let used = self.without(used, path)?;
        let (folder, name, file) = self.all().new_file()?;
        let incoming = Incoming { workspace: self.clone(), path: path.clone(), file: Some(file), folder, name, used, written: 0 };
        incoming.check(0)?;
        Ok(incoming)
    }

    /// Takes in a folder that was made with [`crate::Workspaces::new_folder`], under a path where nothing is.
    ///
    /// # Errors
    /// Something is there, the workspace would be over its quota, or the disk failed.
    pub fn adopt(&self, name: &str, path: &WorkspacePath) -> Result<Usage, WorkspaceError> {
        let used = self.within_quota()?;
        let used = self.without(used, path)?;
        let incoming = self.all().incoming()?;
        let room = Quota { bytes: self.quota().bytes.saturating_sub(used.bytes), files: self.quota().files.saturating_sub(used.files) };
        let more = measure(&walk::open_folder(&incoming, name.as_ref())?, room)?;
        // The folder itself counts as well.
        let sum = Usage { bytes: used.bytes.saturating_add(more.bytes), files: used.files.saturating_add(more.files).saturating_add(1) };
        if sum.is_over(self.quota()) {
            return Err(WorkspaceError::Quota { used: sum, quota: self.quota() });
        }
        let (above, last) = path.split();
        let folder = self.folder_of(&above, true).map_err(|error| about(error, path))?;
        if walk::stat(&folder, last)?.is_some() {
            return Err(WorkspaceError::refused(path.as_str(), "something is there already"));
        }
        rustix::fs::renameat(&incoming, name, &folder, last).map_err(WorkspaceError::io(format!("moving `{path}` to its place")))?;
        Ok(sum)
    }

    /// What is held without the file that stands under a path, and with the folders that it needs.
    fn without(&self, used: Usage, path: &WorkspacePath) -> Result<Usage, WorkspaceError> {
        let (above, last) = path.split();
        let mut folder = self.folder()?;
        for (number, name) in above.iter().enumerate() {
            folder = match walk::open_folder(&folder, name) {
                Ok(folder) => folder,
                Err(WorkspaceError::NotFound(_)) => return Ok(Usage { files: used.files.saturating_add((above.len() - number) as u64), ..used }),
                Err(error) => return Err(about(error, path)),
            };
        }
        match walk::stat(folder, last)? {
            None => Ok(used),
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                Err(WorkspaceError::refused(path.as_str(), "a folder is there already"))
            }
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                let bytes = used.bytes.saturating_sub(u64::try_from(stat.st_size).unwrap_or(0));
                Ok(Usage { bytes, files: used.files.saturating_sub(1) })
            }
            Some(_) => Ok(Usage { files: used.files.saturating_sub(1), ..used }),
        }
    }
}

impl Incoming {
    /// What the workspace would hold with it.
    fn sum(&self) -> Usage {
        Usage { bytes: self.used.bytes.saturating_add(self.written), files: self.used.files.saturating_add(1) }
    }

    fn check(&self, more: u64) -> Result<(), WorkspaceError> {
        let sum = self.sum();
        let sum = Usage { bytes: sum.bytes.saturating_add(more), ..sum };
        let quota = self.workspace.quota();
        if sum.is_over(quota) { Err(WorkspaceError::Quota { used: sum, quota }) } else { Ok(()) }
    }

    /// Bytes that may still come.
    pub fn room(&self) -> u64 {
        self.workspace.quota().bytes.saturating_sub(self.sum().bytes)
    }

    /// The next piece.
    ///
    /// # Errors
    /// It would be over the quota, or the disk failed.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), WorkspaceError> {
        self.check(piece.len() as u64)?;
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(piece).map_err(|source| WorkspaceError::Io { what: format!("writing `{}`", self.path), source })?;
        self.written += piece.len() as u64;
        Ok(())
    }

    /// All of it has come: it is put where it belongs. Bytes of it, and what the workspace holds then.
    ///
    /// # Errors
    /// Its place is in no folder of the workspace's own, or the disk failed.
    pub fn finish(mut self) -> Result<(u64, Usage), WorkspaceError> {
        if let Some(file) = self.file.take() {
            file.sync_all().map_err(|source| WorkspaceError::Io { what: format!("writing `{}`", self.path), source })?;
        }
        // Others may have come in meanwhile.
        self.used = self.workspace.without(self.workspace.measure()?, &self.path)?;
        self.check(0)?;
        let (above, last) = self.path.split();
        let folder = self.workspace.folder_of(&above, true).map_err(|error| about(error, &self.path))?;
        let moved = rustix::fs::renameat(&self.folder, self.name.as_str(), folder, last);
        moved.map_err(WorkspaceError::io(format!("moving `{}` to its place", self.path)))?;
        self.name.clear();
        Ok((self.written, self.sum()))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // What cannot be removed is tidied up at the next start.
            let _ = walk::remove(&self.folder, self.name.as_ref());
        }
    }
}
