//! Keeps notes from trace to trace: a file in the workspace of the trace's session, which each trace reads and adds a line to.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use command_tower::prelude::*;
use serde::{Deserialize, Serialize};

/// Where the host shows the session's workspace.
const WORKSPACE: &str = "/workspace";

/// Where the notes are, from there.
const NOTES: &str = "output/notes.txt";

#[derive(Clone, Deserialize, Serialize)]
struct Params {
    /// What to note; nothing: the notes are read.
    #[serde(default)]
    note: Option<String>,
}

/// What is noted by now.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Notes {
    /// The oldest first.
    notes: Vec<String>,
}

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Notes> {
    keep(&task.params, Path::new(WORKSPACE))
}

fn keep(params: &Params, workspace: &Path) -> Result<Notes> {
    if !workspace.is_dir() {
        return Err(Error::fatal("NO_SESSION", "there is nowhere to keep notes: begin the trace in a session, with `session_id`"));
    }
    let path = workspace.join(NOTES);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let mut notes: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(note) = &params.note {
        notes.push(note.split_whitespace().collect::<Vec<_>>().join(" "));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Beside it and then in its place: who is stopped in the middle loses no older note.
        let new = path.with_extension("new");
        fs::write(&new, notes.join("\n"))?;
        fs::rename(&new, &path)?;
    }
    Ok(Notes { notes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::Tower;

    #[test]
    fn each_note_is_a_line_and_all_of_them_are_told() {
        let _tower = Tower::new();
        let folder = tempfile::tempdir().expect("a folder");
        let note = |text: Option<&str>| keep(&Params { note: text.map(str::to_owned) }, folder.path()).expect("it should be kept").notes;
        assert!(note(None).is_empty());
        assert_eq!(note(Some("buy milk")), ["buy milk"]);
        assert_eq!(note(Some("call\nAda")), ["buy milk", "call Ada"]);
        assert_eq!(note(None), ["buy milk", "call Ada"]);
    }

    #[test]
    fn without_a_session_there_is_nowhere_to_keep_notes() {
        let _tower = Tower::new();
        let error = keep(&Params { note: None }, Path::new("/no/such/folder")).expect_err("there is no folder");
        assert_eq!((error.code(), error.is_retryable()), ("NO_SESSION", false));
    }
}
