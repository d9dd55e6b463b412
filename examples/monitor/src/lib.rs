//! Watches a file: a LOOP, each round of which looks once and compares with what the round before left. It ends by its own word.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path};

use command_tower::prelude::*;
use serde::{Deserialize, Serialize};

/// Where the host shows the folder.
const WORKSPACE: &str = "/workspace";

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Clone, Deserialize, Serialize)]
struct Params {
    /// A file of the workspace, relative.
    file: String,
    /// The watch is over once the file holds this text.
    #[serde(default)]
    until: Option<String>,
}

/// What a round saw; the next one is handed it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
struct Seen {
    /// None: the file is not there.
    bytes: Option<u64>,
    /// Of its content; the same as long as that is.
    fingerprint: u64,
    /// Whether it was otherwise in the round before.
    changed: bool,
    /// In how many rounds so far.
    changes: u32,
}

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Outcome<Seen>> {
    let before: Option<Seen> = task.carried()?;
    look(&task.params, before.as_ref(), Path::new(WORKSPACE))
}

fn look(params: &Params, before: Option<&Seen>, workspace: &Path) -> Result<Outcome<Seen>> {
    let path = path_of(workspace, &params.file)?;
    let content = match fs::metadata(&path) {
        Ok(file) if file.len() > FILE_BYTES_MAX => return Err(Error::fatal("TOO_LARGE", format!("{}: more than {FILE_BYTES_MAX} bytes", params.file))),
        Ok(_) => Some(fs::read(&path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let fingerprint = content.as_deref().map_or(0, fnv1a);
    let bytes = content.as_ref().map(|content| content.len() as u64);
    let changed = before.is_some_and(|before| (before.bytes, before.fingerprint) != (bytes, fingerprint));
    let seen = Seen { bytes, fingerprint, changed, changes: before.map_or(0, |before| before.changes) + u32::from(changed) };
    if changed {
        log::warn!("{} has changed", params.file);
    }
    report::progress(0, format!("{} changes so far", seen.changes));
    let is_over = params.until.as_deref().is_some_and(|text| content.is_some_and(|content| String::from_utf8_lossy(&content).contains(text)));
    Ok(if is_over { Outcome::last(seen) } else { Outcome::done(seen) })
}

fn path_of(workspace: &Path, file: &str) -> Result<std::path::PathBuf> {
    let path = Path::new(file);
    if file.is_empty() || path.components().any(|part| !matches!(part, Component::Normal(_))) {
        return Err(Error::fatal("BAD_FILE", format!("`{file}` is no file within the workspace: it must be relative, without `..`")));
    }
    Ok(workspace.join(path))
}

/// FNV-1a with 64 bits (G. Fowler, L. Noll, K.-P. Vo, 1991): tells changes apart, and is no protection against somebody who wants to hide one.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::Tower;

    fn round(workspace: &Path, before: Option<&Seen>) -> (Seen, bool) {
        let params = Params { file: "state.txt".to_owned(), until: Some("DONE".to_owned()) };
        match look(&params, before, workspace) {
            Ok(Outcome::Done(seen)) => (seen, false),
            Ok(Outcome::Last(seen)) => (seen, true),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_change_is_seen_once_and_the_word_ends_the_watch() {
        let _tower = Tower::new();
        let folder = tempfile::tempdir().expect("a folder");
        let write = |text: &str| fs::write(folder.path().join("state.txt"), text).expect("written");
        let (absent, _) = round(folder.path(), None);
        assert_eq!(absent, Seen::default(), "the first look has nothing to compare with");
        write("one");
        let (first, over) = round(folder.path(), Some(&absent));
        assert_eq!((first.bytes, first.changed, first.changes, over), (Some(3), true, 1, false));
        let (same, _) = round(folder.path(), Some(&first));
        assert_eq!((same.changed, same.changes), (false, 1));
        write("two");
        let (other, _) = round(folder.path(), Some(&same));
        assert_eq!((other.changed, other.changes), (true, 2));
        write("it is DONE");
        assert!(round(folder.path(), Some(&other)).1);
    }

    #[test]
    fn a_file_outside_is_refused() {
        let _tower = Tower::new();
        for file in ["", "../x", "/etc/passwd", "a/../../b"] {
            let params = Params { file: file.to_owned(), until: None };
            assert_eq!(look(&params, None, Path::new("/nowhere")).expect_err(file).code(), "BAD_FILE");
        }
    }

    #[test]
    fn the_fingerprint_is_that_of_the_authors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
