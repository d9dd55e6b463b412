//! Tries to reach files, as it is told, and returns what came of it. It is a component of its own because whatever imports
//! `wasi:filesystem` must be granted it, and the probe should run without any grant.

use std::io;
use std::path::Path;

use command_tower::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Params {
    /// Reads a file: `{"bytes", "text"}`.
    Read { path: String },
    /// Lists a folder: `{"entries"}`.
    List { path: String },
    /// Writes a file: `{"bytes"}`.
    Write {
        path: String,
        #[serde(default)]
        text: String,
    },
    /// Removes a file: `{}`.
    Remove { path: String },
}

/// What did not work is an output too: `{"error": "<kind>", "message"}`.
#[command_tower::step]
fn run(task: Task<Params>) -> Result<Value> {
    let tried = match &task.params {
        Params::Read { path } => read(path.as_ref()),
        Params::List { path } => list(path.as_ref()),
        Params::Write { path, text } => std::fs::write(path, text).map(|()| json!({ "bytes": text.len() })),
        Params::Remove { path } => std::fs::remove_file(path).map(|()| json!({})),
    };
    Ok(tried.unwrap_or_else(|error| json!({ "error": format!("{:?}", error.kind()), "message": error.to_string() })))
}

fn read(path: &Path) -> io::Result<Value> {
    const TEXT_BYTES_MAX: usize = 1000;
    let bytes = std::fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]);
    Ok(json!({ "bytes": bytes.len(), "text": text }))
}

fn list(path: &Path) -> io::Result<Value> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        entries.push(entry?.file_name().to_string_lossy().into_owned());
    }
    entries.sort();
    Ok(json!({ "entries": entries }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing;

    fn tried(params: Value) -> Value {
        run(testing::task(Params::deserialize(params).expect("the params should fit"))).expect("trying always works")
    }

    #[test]
    fn a_file_that_is_not_there_is_an_output() {
        assert_eq!(tried(json!({ "do": "read", "path": "/no/such/file" }))["error"], "NotFound");
    }

    #[test]
    fn a_folder_is_listed_in_order() {
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(tried(json!({ "do": "list", "path": here }))["entries"], json!(["Cargo.toml", "src"]));
    }
}
