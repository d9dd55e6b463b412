//! What can be seen from inside.

use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use command_tower::prelude::*;

/// Environment and arguments: in a sandbox, none.
pub(crate) fn environment() -> Value {
    let env: Vec<(String, Value)> =
        std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned().into())).collect();
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    json!({ "env": Value::Object(env.into_iter().collect()), "args": args })
}

/// Two numbers, as the standard library draws them to seed its hash tables.
pub(crate) fn random() -> Value {
    let draw = || format!("{:016x}", RandomState::new().hash_one(0));
    json!([draw(), draw()])
}

/// The wall clock, and the time since this function was first called.
pub(crate) fn clock() -> Value {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let begin = *BEGIN;
    #[expect(clippy::disallowed_methods, reason = "a guest has no Clock but WASI's")]
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({ "wall_ms": u64::try_from(wall.as_millis()).unwrap_or(u64::MAX), "monotonic_ns": begin.elapsed().as_nanos() as u64 })
}

pub(crate) fn print(stdout: &str, stderr: &str) -> Result<Value> {
    std::io::stdout().write_all(stdout.as_bytes())?;
    std::io::stdout().flush()?;
    std::io::stderr().write_all(stderr.as_bytes())?;
    Ok(json!({ "stdout": stdout.len(), "stderr": stderr.len() }))
}

/// Standard input: in a sandbox, empty.
pub(crate) fn stdin() -> Result<Value> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    Ok(json!({ "bytes": bytes.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_differ() {
        let Value::Array(drawn) = random() else { panic!("not a list") };
        assert_ne!(drawn[0], drawn[1]);
    }
}
