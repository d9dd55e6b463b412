//! Reaching for files. What does not work is an output too.

use std::io::Read;
use std::{fs, io};

use command_tower::prelude::*;

/// Of a file that is read, as much as this is shown.
const TEXT_BYTES_MAX: usize = 1000;

/// What came of it: the value, or `{"error": "<kind>", "message"}`.
pub(crate) fn tried(result: io::Result<Value>) -> Value {
    result.unwrap_or_else(|error| json!({ "error": format!("{:?}", error.kind()), "message": error.to_string() }))
}

pub(crate) fn read(path: &str) -> io::Result<Value> {
    let bytes = fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]);
    Ok(json!({ "bytes": bytes.len(), "text": text }))
}

pub(crate) fn list(path: &str) -> io::Result<Value> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        entries.push(entry?.file_name().to_string_lossy().into_owned());
    }
    entries.sort();
    Ok(json!({ "entries": entries }))
}

pub(crate) fn write(path: &str, text: &str) -> io::Result<Value> {
    fs::write(path, text)?;
    Ok(json!({ "bytes": text.len() }))
}

pub(crate) fn fill(path: &str, bytes: u64) -> io::Result<Value> {
    let written = io::copy(&mut io::repeat(b'x').take(bytes), &mut fs::File::create(path)?)?;
    Ok(json!({ "bytes": written }))
}

pub(crate) fn remove(path: &str) -> io::Result<Value> {
    fs::remove_file(path)?;
    Ok(json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_an_output() {
        assert_eq!(tried(read("/no/such/file"))["error"], "NotFound");
    }

    #[test]
    fn a_folder_is_listed_in_order() {
        let entries = tried(list(env!("CARGO_MANIFEST_DIR")));
        assert_eq!(entries["entries"], json!(["Cargo.toml", "README.md", "src", "tower.toml"]));
    }
}
