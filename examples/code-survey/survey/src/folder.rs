//! Reading one folder.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path};

use command_tower::prelude::*;
use serde::{Deserialize, Serialize};

use crate::tally::{File, Tally};

/// Read at a time; between two reads the step asks whether it is cancelled.
const PIECE_BYTES: usize = 64 * 1024;

/// Which names count: `*.rs` is every name that ends so, anything else is a whole name.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Patterns {
    /// Files that are counted; empty: all.
    #[serde(default)]
    include: Vec<String>,
    /// Files and folders that are not looked at.
    #[serde(default = "not_sources")]
    exclude: Vec<String>,
}

fn not_sources() -> Vec<String> {
    [".git", "target", "node_modules"].map(str::to_owned).to_vec()
}

impl Patterns {
    fn counts(&self, file: &str) -> bool {
        self.include.is_empty() || self.include.iter().any(|pattern| fits(pattern, file))
    }

    fn skips(&self, name: &str) -> bool {
        self.exclude.iter().any(|pattern| fits(pattern, name))
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_prefix('*').map_or(name == pattern, |end| name.ends_with(end))
}

/// A folder yet to be counted.
pub(crate) struct Folder {
    pub(crate) name: String,
    /// From the workspace, with `/`.
    pub(crate) path: String,
}

/// Counts the files of the folder at `path` itself, and lists the folders in it by name. Links are not followed.
pub(crate) fn count(workspace: &Path, path: &str, patterns: &Patterns) -> Result<(Tally, Vec<Folder>)> {
    if Path::new(path).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(Error::fatal("BAD_PATH", format!("`{path}` is not a folder within the workspace: it must be relative, without `..`")));
    }
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(workspace.join(path)).map_err(|error| no_folder(path, error))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            log::warn!("skipped a name that is not UTF-8 in `{path}`");
            continue;
        };
        if patterns.skips(&name) {
            continue;
        }
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            folders.push(Folder { name, path });
        } else if kind.is_file() && patterns.counts(&name) {
            files.push(path);
        }
    }
    folders.sort_by(|a, b| a.name.cmp(&b.name));

    let mut tally = Tally::folder();
    let total = files.len();
    for (done, path) in files.into_iter().enumerate() {
        report::progress_of(done, total, &path);
        match count_file(&workspace.join(&path))? {
            Ok((lines, bytes)) => tally.add_file(File { path, lines, bytes }),
            Err(error) => {
                log::warn!("`{path}` cannot be read: {error}");
                tally.unreadable += 1;
            }
        }
    }
    Ok((tally, folders))
}

/// Lines and bytes. The outer error is a cancel, the inner one concerns this file only.
fn count_file(path: &Path) -> Result<io::Result<(u64, u64)>> {
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let mut piece = vec![0; PIECE_BYTES];
    let (mut lines, mut bytes) = (0, 0);
    loop {
        check_cancel()?;
        match file.read(&mut piece) {
            Ok(0) => return Ok(Ok((lines, bytes))),
            Ok(read) => {
                bytes += read as u64;
                lines += piece[..read].iter().filter(|&&byte| byte == b'\n').count() as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

fn no_folder(path: &str, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            let hint = "Does the definition grant a workspace, and did the operator name its mount?";
            Error::fatal("NO_FOLDER", format!("there is no folder `/workspace/{path}` to survey. {hint}"))
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::Tower;

    #[test]
    fn a_star_stands_for_any_beginning() {
        assert!(fits("*.rs", "lib.rs") && fits("*", "anything") && fits("target", "target"));
        assert!(!fits("*.rs", "lib.rs.bak") && !fits("target", "targets"));
    }

    #[test]
    fn lines_are_counted_across_pieces() {
        let folder = tempfile::tempdir().expect("there should be room for a folder");
        let path = folder.path().join("big");
        fs::write(&path, "0123456\n".repeat(PIECE_BYTES / 4)).expect("it should be written");
        let (lines, bytes) = count_file(&path).expect("nobody cancels").expect("it is there");
        assert_eq!((lines, bytes), (PIECE_BYTES as u64 / 4, PIECE_BYTES as u64 * 2));
    }

    #[test]
    fn a_cancel_ends_it_between_two_pieces() {
        let folder = tempfile::tempdir().expect("there should be room for a folder");
        let path = folder.path().join("big");
        fs::write(&path, vec![b'\n'; PIECE_BYTES * 3]).expect("it should be written");
        let tower = Tower::new();
        tower.signal_after(2, Signal::Cancel("enough".into()));
        assert!(count_file(&path).is_err_and(|error| error.is_cancelled()));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("there should be room for a folder");
        std::os::unix::fs::symlink("/etc", folder.path().join("out")).expect("a link should be made");
        let patterns = Patterns { include: Vec::new(), exclude: Vec::new() };
        let (tally, folders) = count(folder.path(), "", &patterns).expect("it should be counted");
        assert_eq!((tally.files, folders.len()), (0, 0));
    }
}
