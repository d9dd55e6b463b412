//! Counts the files, lines and bytes of a source tree that it sees at `/workspace`, read-only: a task for every folder.
//!
//! The step counts a folder's own files and splits off a child for each folder in it; the aggregate adds up what they found. Where
//! no deeper layer is allowed, the step counts what is below by itself.
//! - [`tally`]: what is counted, and adding it up; [`folder`]: reading one folder; [`key`]: folder names as keys.

mod folder;
mod key;
mod tally;

use std::path::Path;

use command_tower::prelude::*;
use folder::{Folder, Patterns};
use serde::{Deserialize, Serialize};
use tally::Tally;

/// Where the host shows the source tree.
const WORKSPACE: &str = "/workspace";

/// Children handed over in one call: many enough that calls cost little, few enough to hold.
const BATCH_CHILDREN: usize = 1000;

#[derive(Clone, Deserialize, Serialize)]
struct Params {
    /// A folder of the workspace; empty for all of it.
    #[serde(default)]
    path: String,
    #[serde(flatten)]
    patterns: Patterns,
}

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Tally> {
    survey(&task, Path::new(WORKSPACE))
}

#[command_tower::aggregate]
fn fold(task: Task<Params>, results: Results) -> Result<Tally> {
    let mut total: Tally = task.carried()?.unwrap_or_default();
    for result in results {
        check_cancel()?;
        total.add(result.output()?);
    }
    Ok(total)
}

fn survey(task: &Task<Params>, workspace: &Path) -> Result<Tally> {
    let Params { path, patterns } = &task.params;
    let (mut tally, folders) = folder::count(workspace, path, patterns)?;
    if task.may_split {
        split_folders(task, &folders)?;
    } else {
        let mut open = folders;
        while let Some(Folder { path, .. }) = open.pop() {
            let (below, folders) = folder::count(workspace, &path, patterns)?;
            tally.add(below);
            open.extend(folders);
        }
    }
    Ok(tally)
}

fn split_folders(task: &Task<Params>, folders: &[Folder]) -> Result<()> {
    for (batch, folders) in folders.chunks(BATCH_CHILDREN).enumerate() {
        let mut children = Vec::with_capacity(folders.len());
        for (index, folder) in folders.iter().enumerate() {
            let params = Params { path: folder.path.clone(), patterns: task.params.patterns.clone() };
            let key = key::of(&folder.name, batch * BATCH_CHILDREN + index);
            children.push(Child::new(key, &task.definition).params(&params)?);
        }
        split(children)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::{self, Tower};
    use std::fs;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("there should be room for a folder");
        for (path, text) in
            [("main.rs", "fn main() {\n}\n"), ("notes", "no line end"), ("src/lib.rs", "//! a\n"), ("src/deep/er/mod.RS", "\n\n\n"), (".git/config", "x\n")]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in a folder")).expect("it should be made");
            fs::write(path, text).expect("it should be written");
        }
        root
    }

    fn task(params: Value) -> Task<Params> {
        testing::task(Params::deserialize(params).expect("the params should fit"))
    }

    /// Plays the tower: runs the children of every step, and folds what they return.
    fn play(task: Task<Params>, workspace: &Path) -> Result<Tally> {
        let tower = Tower::new();
        let own = survey(&task, workspace)?;
        let children = tower.children();
        if children.is_empty() {
            return Ok(own);
        }
        let mut results = Vec::new();
        for child in children {
            let params: Value = child.params_json().parse()?;
            results.push(testing::success(child.key(), &play(self::task(params), workspace)?));
        }
        fold(task.with_carried(&own), testing::results(results))
    }

    #[test]
    fn a_tree_is_counted_task_by_task() {
        let root = tree();
        let tally = play(task(json!({})), root.path()).expect("it should be counted");
        assert_eq!((tally.files, tally.lines, tally.bytes, tally.folders), (4, 6, 14 + 11 + 6 + 3, 4));
        assert_eq!(tally.by_extension["rs"].files, 3);
        assert_eq!(tally.by_extension["(none)"].lines, 0);
        let largest: Vec<&str> = tally.largest.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(largest, ["main.rs", "notes", "src/lib.rs", "src/deep/er/mod.RS"]);
    }

    #[test]
    fn without_leave_to_split_the_result_is_the_same() {
        let root = tree();
        let mut alone = task(json!({}));
        alone.may_split = false;
        let tower = Tower::new();
        assert_eq!(survey(&alone, root.path()), play(task(json!({})), root.path()));
        assert!(tower.children().is_empty());
    }

    #[test]
    fn only_what_is_included_counts() {
        let root = tree();
        let tally = play(task(json!({ "path": "src", "include": ["*.rs"] })), root.path()).expect("it should be counted");
        assert_eq!((tally.files, tally.folders), (1, 3));
    }

    #[test]
    fn a_path_out_of_the_workspace_is_refused() {
        for path in ["..", "/etc", "src/../../etc"] {
            let error = survey(&task(json!({ "path": path })), tree().path()).expect_err("it should be refused");
            assert_eq!(error.code(), "BAD_PATH");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_fatal() {
        let error = survey(&task(json!({ "path": "nowhere" })), tree().path()).expect_err("there is none");
        assert_eq!((error.code(), error.is_retryable()), ("NO_FOLDER", false));
    }
}
