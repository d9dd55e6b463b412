//! Deletes traces that ended long ago, a little at a time: nobody waits for it, and it gives way to everybody.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower_store::retention::Retired;

use crate::committer::{RETRY_AFTER, chain};
use crate::engine::Engine;
use crate::inner::Inner;
use crate::orders::StoreFailure;

/// How often it is looked whether something has become old.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Rows that are deleted in one transaction, for which others wait on an embedded database.
const ROWS_MAX: u32 = 1_000;
/// After a piece of work it rests for so many times as long as that took: it takes a fifth of the database at the most.
const REST: u32 = 4;

/// Deletes until the engine is stopped.
pub(crate) async fn run(inner: Arc<Inner>, kept: Duration) {
    loop {
        let rest = if inner.is_healthy() { inner.retire_piece(kept).await } else { LOOK_EVERY };
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
    }
}

impl Inner {
    /// Does a piece of work, and answers how long to rest.
    async fn retire_piece(&self, kept: Duration) -> Duration {
        let begin = Instant::now();
        match self.stores.retention.retire(self.clock.now(), kept, ROWS_MAX).await {
            Ok(Retired { traces, rows, more }) => {
                if traces > 0 {
                    tracing::info!(traces, rows, "old traces were deleted");
                }
                if more { REST * begin.elapsed() } else { LOOK_EVERY }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "old traces are not deleted");
                LOOK_EVERY.max(RETRY_AFTER)
            }
        }
    }
}

impl Engine {
    /// Deletes what is old by now, all of it; answers how many traces went. The engine does so by itself; where time is simulated, it is called.
    pub async fn retire_old(&self) -> Result<u64, StoreFailure> {
        let Some(kept) = self.inner.config.retention else { return Ok(0) };
        let mut traces = 0;
        loop {
            let retired = self.inner.stores.retention.retire(self.inner.clock.now(), kept, ROWS_MAX).await?;
            traces += retired.traces;
            if !retired.more {
                return Ok(traces);
            }
        }
    }
}
