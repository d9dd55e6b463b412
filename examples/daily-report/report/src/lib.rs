//! A report of what the logs of a folder say: a task for every file, folded into a page of Markdown. It runs by itself every morning.
//!
//! - [`count`]: reading one file; [`page`]: writing the page.

mod count;
mod page;

use std::fs;
use std::path::{Component, Path};

use command_tower::prelude::*;
use count::Counts;
use serde::{Deserialize, Serialize};

/// Where the host shows the logs.
const WORKSPACE: &str = "/workspace";

/// The definition that reads one file.
const FILE: &str = "daily-report-file";

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Params {
    /// Files whose names end so are reported on.
    #[serde(default = "log")]
    suffix: String,
    /// A single file, of which nothing but the counts are wanted.
    #[serde(default)]
    file: Option<String>,
}

fn log() -> String {
    ".log".to_owned()
}

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Counts> {
    match &task.params.file {
        Some(file) => count::file(&path_of(Path::new(WORKSPACE), file)?),
        None => begin(&task.params, Path::new(WORKSPACE)),
    }
}

#[command_tower::aggregate]
fn fold(_task: Task<Params>, results: Results) -> Result<Value> {
    let mut files = Vec::new();
    for result in results {
        check_cancel()?;
        let counts = if result.succeeded() { Some(result.output::<Counts>()?) } else { None };
        files.push((result.key, counts));
    }
    Ok(page::of(files))
}

/// Splits off a child for each file of the folder.
fn begin(params: &Params, workspace: &Path) -> Result<Counts> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && name.ends_with(&params.suffix)
            && entry.file_type()?.is_file()
        {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(Error::fatal("NO_LOGS", format!("no file of the folder ends in `{}`", params.suffix)));
    }
    names.sort();
    let children = names.iter().map(|name| Child::new(key_of(name), FILE).params(&Params { file: Some(name.clone()), ..params.clone() }));
    split(children.collect::<Result<Vec<_>>>()?)?;
    Ok(Counts::default())
}

/// A file of the folder itself and no other.
fn path_of(workspace: &Path, file: &str) -> Result<std::path::PathBuf> {
    let mut parts = Path::new(file).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => Ok(workspace.join(name)),
        _ => Err(Error::fatal("BAD_FILE", format!("`{file}` is no file of the folder itself"))),
    }
}

/// Keys are plain; what else a name holds becomes `_`.
fn key_of(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' }).take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::{self, Tower};

    fn params(file: Option<&str>) -> Params {
        Params { suffix: log(), file: file.map(str::to_owned) }
    }

    #[test]
    fn each_log_of_the_folder_is_a_child() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["b.log", "a b.log", "notes.txt"] {
            fs::write(folder.path().join(name), "x").expect("written");
        }
        let tower = Tower::new();
        begin(&params(None), folder.path()).expect("it splits");
        let keys: Vec<String> = tower.children().iter().map(|child| child.key().to_owned()).collect();
        assert_eq!(keys, ["a_b.log", "b.log"]);
    }

    #[test]
    fn a_folder_without_logs_and_a_file_outside_are_refused() {
        let _tower = Tower::new();
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(begin(&params(None), folder.path()).expect_err("nothing to report").code(), "NO_LOGS");
        for file in ["../x", "/etc/passwd", "a/b", ""] {
            let task: Task<Params> = testing::task(params(Some(file)));
            assert_eq!(run(task).expect_err(file).code(), "BAD_FILE");
        }
    }
}
