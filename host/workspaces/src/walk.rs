//! Going down one segment at a time. No function here follows a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::WorkspaceError;
use crate::path::DEPTH_MAX;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What names in errors look like.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Opens a folder in a folder.
pub(crate) fn open_folder(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, WorkspaceError> {
    rustix::fs::openat(parent, name, FOLDER, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => WorkspaceError::NotFound(shown(name)),
        // A link to a folder is told the one or the other way.
        Errno::NOTDIR | Errno::LOOP => WorkspaceError::refused(shown(name), "not a folder of the workspace's own"),
        error => WorkspaceError::io(format!("opening `{}`", shown(name)))(error),
    })
}

/// Makes a folder in a folder, unless there is one.
pub(crate) fn make_folder(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, WorkspaceError> {
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => open_folder(parent, name),
        Err(error) => Err(WorkspaceError::io(format!("making `{}`", shown(name)))(error)),
    }
}

/// Opens a plain file to read, which has no other name and stands for no device or pipe.
pub(crate) fn open_file(parent: impl AsFd, name: &OsStr) -> Result<(File, Stat), WorkspaceError> {
    // Not waiting for whoever writes into a pipe, and taking no terminal over.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => WorkspaceError::NotFound(shown(name)),
        Errno::LOOP => WorkspaceError::refused(shown(name), "a symbolic link, and those are not followed"),
        Errno::NXIO | Errno::NODEV => WorkspaceError::refused(shown(name), "not a plain file"),
        error => WorkspaceError::io(format!("opening `{}`", shown(name)))(error),
    })?;
    let stat = rustix::fs::fstat(&opened).map_err(WorkspaceError::io(format!("looking at `{}`", shown(name))))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink > 1 => Err(WorkspaceError::refused(shown(name), "it has hard links, which may be outside of the workspace")),
        FileType::RegularFile => Ok((File::from(opened), stat)),
        FileType::Directory => Err(WorkspaceError::refused(shown(name), "a folder")),
        _ => Err(WorkspaceError::refused(shown(name), "not a plain file")),
    }
}

/// What stands under a name; nothing: there is nothing.
pub(crate) fn stat(parent: impl AsFd, name: &OsStr) -> Result<Option<Stat>, WorkspaceError> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(WorkspaceError::io(format!("looking at `{}`", shown(name)))(error)),
    }
}

/// Names in a folder, but for `.` and `..`.
pub(crate) fn names(folder: impl AsFd) -> Result<Vec<OsString>, WorkspaceError> {
    let failed = || WorkspaceError::io("reading a folder");
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Something under a folder, on the way over everything.
pub(crate) struct Found<'a> {
    /// From the top, with slashes.
    pub(crate) path: &'a OsStr,
    pub(crate) name: &'a OsStr,
    pub(crate) folder: &'a OwnedFd,
    pub(crate) stat: &'a Stat,
    pub(crate) kind: FileType,
}

/// Shows everything below a folder, folders before what is in them, until it is told to stop. Whether all was shown: what is too deep
/// is not.
pub(crate) fn over(top: &OwnedFd, show: &mut dyn FnMut(&Found<'_>) -> Result<ControlFlow<()>, WorkspaceError>) -> Result<bool, WorkspaceError> {
    let top = rustix::fs::openat(top, ".", FOLDER, Mode::empty()).map_err(WorkspaceError::io("opening a folder"))?;
    let mut path = OsString::new();
    // Names yet to be looked at are held for each folder on the way, and as many folders are open as the way is long.
    let mut way = vec![(sorted(&top)?.into_iter(), top, 0)];
    let mut whole = true;
    while let Some((waiting, folder, length)) = way.last_mut() {
        let Some(name) = waiting.next() else {
            way.pop();
            continue;
        };
        let mut bytes = path.as_bytes()[..*length].to_vec();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name.as_bytes());
        path = OsStr::from_bytes(&bytes).to_owned();
        // Gone meanwhile.
        let Some(stat) = stat(&*folder, &name)? else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if show(&Found { path: &path, name: &name, folder, stat: &stat, kind })?.is_break() {
            return Ok(whole);
        }
        if kind == FileType::Directory {
            let inner = match open_folder(&*folder, &name) {
                Ok(inner) => inner,
                Err(WorkspaceError::NotFound(_) | WorkspaceError::Refused { .. }) => continue,
                Err(error) => return Err(error),
            };
            if way.len() >= DEPTH_MAX {
                whole &= names(&inner)?.is_empty();
                continue;
            }
            way.push((sorted(&inner)?.into_iter(), inner, path.len()));
        }
    }
    Ok(whole)
}

fn sorted(folder: &OwnedFd) -> Result<Vec<OsString>, WorkspaceError> {
    let mut names = names(folder)?;
    names.sort_unstable();
    Ok(names)
}

/// Takes away whatever stands under a name, with all that is in it, however deep that is.
pub(crate) fn remove(parent: impl AsFd, name: &OsStr) -> Result<(), WorkspaceError> {
    let parent = parent.as_fd();
    let failed = || WorkspaceError::io(format!("deleting `{}`", shown(name)));
    if !is_folder(parent, name)? {
        return match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed()(error)),
        };
    }
    let top = open_folder(parent, name)?;
    // Folders that are too deep to be reached are moved to the top, and it is gone over again.
    while !names(&top)?.is_empty() {
        empty(&top, &top, 0)?;
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed()(error)),
    }
}

fn is_folder(parent: impl AsFd, name: &OsStr) -> Result<bool, WorkspaceError> {
    Ok(stat(parent, name)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
}

fn empty(top: &OwnedFd, folder: &OwnedFd, depth: usize) -> Result<(), WorkspaceError> {
    for name in names(folder)? {
        let failed = || WorkspaceError::io(format!("deleting `{}`", shown(&name)));
        if !is_folder(folder, &name)? {
            match rustix::fs::unlinkat(folder, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed()(error)),
            }
        }
        if depth >= DEPTH_MAX {
            let aside = unique();
            rustix::fs::renameat(folder, &name, top, aside.as_str()).map_err(failed())?;
            continue;
        }
        empty(top, &open_folder(folder, &name)?, depth + 1)?;
        match rustix::fs::unlinkat(folder, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(())
}

/// A name that this process has not given before.
#[expect(clippy::disallowed_methods, reason = "a name is to be another than that of an earlier process; nothing is decided by the time")]
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |at| at.as_nanos());
    format!("{nanos:x}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A file that was not there.
pub(crate) fn new_file(folder: impl AsFd) -> Result<(String, File), WorkspaceError> {
    loop {
        let name = unique();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&folder, name.as_str(), flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => return Ok((name, File::from(file))),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(WorkspaceError::io("making a file")(error)),
        }
    }
}

/// A folder that was not there.
pub(crate) fn new_folder(folder: impl AsFd) -> Result<String, WorkspaceError> {
    loop {
        let name = unique();
        match rustix::fs::mkdirat(&folder, name.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) => return Ok(name),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(WorkspaceError::io("making a folder")(error)),
        }
    }
}
