//! Where PostgreSQL's programs are.

use std::path::{Path, PathBuf};

/// The folder with PostgreSQL's programs, where it was looked for.
const VARIABLE: &str = "TOWER_TEST_POSTGRES_BIN";

/// Where Debian and its relatives keep one folder a version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// PostgreSQL's programs.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// In the folder of the variable `TOWER_TEST_POSTGRES_BIN`, else on the path, else the newest version that is installed.
    ///
    /// # Panics
    /// If there are none.
    pub fn find() -> Self {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let on_path = || std::env::var_os("PATH").and_then(|path| std::env::split_paths(&path).find(|folder| is_complete(folder)));
        let folder = named.filter(|folder| is_complete(folder)).or_else(on_path).or_else(newest);
        match folder {
            Some(folder) => Self { folder },
            None => panic!(
                "these tests need PostgreSQL's programs (initdb, postgres, psql, pg_isready): install the package `postgresql` (Debian, Ubuntu), \
                 `postgresql-server` (Fedora) or `postgresql` (Homebrew), or name their folder in {VARIABLE}"
            ),
        }
    }

    /// One of them.
    pub fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres", "psql", "pg_isready"].iter().all(|program| folder.join(program).is_file())
}

fn newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).ok()?.filter_map(|entry| {
        let folder = entry.ok()?.path();
        let version: u32 = folder.file_name()?.to_str()?.split('.').next()?.parse().ok()?;
        let bin = folder.join("bin");
        is_complete(&bin).then_some((version, bin))
    });
    versions.max_by_key(|(version, _)| *version).map(|(_, bin)| bin)
}

/// User and group of `postgres`, if this process is root's.
pub(crate) fn unprivileged_user() -> Option<(u32, u32)> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0);
    if !is_root {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        if name == "postgres" { Some((uid.parse().ok()?, gid.parse().ok()?)) } else { None }
    });
    Some(user.expect("PostgreSQL does not run as root, and there is no user `postgres`: run the tests as another user"))
}
