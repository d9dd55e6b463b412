//! A workspace as one tar, and back.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::fs::{FileType, Mode, OFlags};
use tar::{EntryType, Header};

use crate::path::WorkspacePath;
use crate::{Workspace, WorkspaceError, walk};

/// The file that says what is not worth keeping, as `.gitignore` does.
pub const IGNORE_FILE: &str = ".towerignore";
/// More of it is not read.
const IGNORE_BYTES_MAX: u64 = 64 * 1024;
/// What stands behind a workspace's name while it is restored.
const RESTORING: &str = ".restoring";

impl Workspace {
    /// Writes it as a tar, without what its `.towerignore` names. Links are kept as links. A file with several names, or something that
    /// is neither file, folder nor link, is refused: it would not come back as it was.
    ///
    /// # Errors
    /// It holds what cannot be kept, is too deep, or cannot be read; or `out` failed.
    pub fn pack(&self, out: impl Write) -> Result<(), WorkspaceError> {
        let top = self.folder()?;
        let ignored = self.ignored()?;
        let mut tar = tar::Builder::new(out);
        let whole = walk::over(&top, &mut |found| {
            let is_folder = found.kind == FileType::Directory;
            if ignored.matched_path_or_any_parents(Path::new(found.path), is_folder).is_ignore() {
                return Ok(ControlFlow::Continue(()));
            }
            let failed = |source: io::Error| WorkspaceError::Io { what: format!("archiving `{}`", found.path.to_string_lossy()), source };
            let mut header = Header::new_gnu();
            header.set_mode(found.stat.st_mode & 0o777);
            header.set_mtime(u64::try_from(found.stat.st_mtime).unwrap_or(0));
            header.set_size(0);
            match found.kind {
                FileType::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    tar.append_data(&mut header, Path::new(found.path), io::empty()).map_err(failed)?;
                }
                FileType::Symlink => {
                    header.set_entry_type(EntryType::Symlink);
                    let target = rustix::fs::readlinkat(found.folder, found.name, Vec::new()).map_err(|error| failed(error.into()))?;
                    tar.append_link(&mut header, Path::new(found.path), Path::new(std::ffi::OsStr::from_bytes(target.to_bytes()))).map_err(failed)?;
                }
                _ => {
                    let (file, stat) = walk::open_file(found.folder, found.name)?;
                    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(bytes);
                    // As long as it was when the header was made, whoever goes on writing.
                    tar.append_data(&mut header, Path::new(found.path), file.take(bytes).chain(io::repeat(0)).take(bytes)).map_err(failed)?;
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if !whole {
            return Err(WorkspaceError::refused(self.session(), "it has more than 64 folders in each other"));
        }
        tar.finish()
            .and_then(|()| tar.into_inner())
            .and_then(|mut out| out.flush())
            .map_err(|source| WorkspaceError::Io { what: "archiving".to_owned(), source })
    }

    fn ignored(&self) -> Result<Gitignore, WorkspaceError> {
        let path: WorkspacePath = IGNORE_FILE.parse()?;
        let mut text = String::new();
        match self.read(&path) {
            // What cannot be read as text ignores nothing.
            Ok((file, _)) => drop(file.take(IGNORE_BYTES_MAX).read_to_string(&mut text)),
            Err(WorkspaceError::NotFound(_) | WorkspaceError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut builder = GitignoreBuilder::new("");
        for line in text.lines() {
            // A line that is no pattern ignores nothing, as with git.
            let _ = builder.add_line(None, line);
        }
        Ok(builder.build().unwrap_or_else(|_| Gitignore::empty()))
    }

    /// Makes it from a tar of [`Self::pack`]. What was there is replaced once all of it has come.
    ///
    /// # Errors
    /// The tar is damaged or holds what no workspace holds; or the disk failed.
    pub fn unpack(&self, tar: impl Read) -> Result<(), WorkspaceError> {
        let user = self.made_user_folder()?;
        let name = format!("{}{RESTORING}", self.session());
        walk::remove(&user, name.as_ref())?;
        let top = walk::make_folder(&user, name.as_ref())?;
        let failed = |source| WorkspaceError::Io { what: "restoring".to_owned(), source };
        for entry in tar::Archive::new(tar).entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let bytes = entry.path_bytes().into_owned();
            // Names that are no text are taken byte by byte, and bound in the same way.
            let segments: Vec<&std::ffi::OsStr> =
                bytes.split(|byte| *byte == b'/').filter(|segment| !segment.is_empty()).map(std::ffi::OsStr::from_bytes).collect();
            let Some((last, above)) = segments.split_last() else { continue };
            if segments.iter().any(|segment| *segment == "." || *segment == "..") {
                return Err(WorkspaceError::refused(String::from_utf8_lossy(&bytes), "an archive leads out of the workspace"));
            }
            let mut folder = rustix::io::dup(&top).map_err(WorkspaceError::io("restoring"))?;
            for segment in above {
                folder = walk::make_folder(&folder, segment)?;
            }
            let io = || WorkspaceError::io(format!("restoring `{}`", String::from_utf8_lossy(&bytes)));
            let mode = entry.header().mode().unwrap_or(0o644);
            match entry.header().entry_type() {
                EntryType::Directory => drop(walk::make_folder(&folder, last)?),
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                    rustix::fs::symlinkat(std::ffi::OsStr::from_bytes(&target), &folder, *last).map_err(io())?;
                }
                EntryType::Regular => {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let mode = Mode::from_raw_mode((mode & 0o777) | 0o600);
                    let mut file = std::fs::File::from(rustix::fs::openat(&folder, *last, flags, mode).map_err(io())?);
                    io::copy(&mut entry, &mut file).map_err(failed)?;
                }
                _ => return Err(WorkspaceError::refused(String::from_utf8_lossy(&bytes), "an archive holds what no workspace holds")),
            }
        }
        walk::remove(&user, self.session().as_ref())?;
        rustix::fs::renameat(&user, name.as_str(), &user, self.session()).map_err(WorkspaceError::io("restoring"))?;
        self.ensure()
    }
}
