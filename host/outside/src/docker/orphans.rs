//! Containers of this tower that nobody here knows: left by an earlier self that was killed, or when the engine was away.

use super::create::OWNER;
use super::engine::{Engine, EngineError};

use super::container::Names;

/// Removes them. Answers how many there were.
pub(crate) async fn sweep(engine: &Engine, names: &Names, owner: &str) -> Result<usize, EngineError> {
    let mut removed = 0;
    for found in engine.list(format!("{OWNER}={owner}")).await? {
        let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        let name = name.trim_start_matches('/');
        // A name is noted before its container is made, and until it is gone.
        if names.contains(name) {
            continue;
        }
        let Some(id) = found.id else { continue };
        engine.remove(&id).await?;
        tracing::info!(container = %name, "an orphan was removed");
        removed += 1;
    }
    Ok(removed)
}
