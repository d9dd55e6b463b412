//! Looking for what is outside. What it finds is its output, so that everybody sees that it is nothing.

use command_tower::prelude::*;

/// Where something might be.
const PATHS: &[&str] = &["/", ".", "..", "/etc/passwd", "../../../etc/passwd", "/proc/self/environ", "/workspace", "/tmp", "/var/run/docker.sock"];

/// Tries to read and to write files.
pub(crate) fn files() -> Result<Value> {
    let mut opened = Vec::new();
    for path in PATHS {
        if std::fs::read(path).is_ok() || std::fs::read_dir(path).is_ok_and(|entries| entries.count() > 0) {
            opened.push(format!("read {path}"));
        }
        if std::fs::write(format!("{path}/was-here"), "x").is_ok() {
            opened.push(format!("wrote {path}"));
        }
    }
    Ok(json!({ "tried": PATHS.len() * 2, "opened": opened }))
}

/// Environment, arguments and standard input.
pub(crate) fn environment() -> Result<Value> {
    let stdin = std::io::read_to_string(std::io::stdin()).unwrap_or_default();
    Ok(json!({ "env": std::env::vars_os().count(), "args": std::env::args_os().count(), "stdin_bytes": stdin.len() }))
}
