//! Deletes traces that ended long ago, and then the large outputs that nobody refers to any more, a little at a time: nobody waits for it, and
//! it gives way to everybody.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;
use tower_domain::code_ref::Digest;
use tower_store::StoreError;
use tower_store::retention::Retired;

use crate::committer::{RETRY_AFTER, chain};
use crate::engine::Engine;
use crate::inner::Inner;
use crate::orders::StoreFailure;

/// How often it is looked whether something has become old.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Rows that are deleted in one transaction, for which others wait on an embedded database.
const ROWS_MAX: u32 = 1_000;
/// Artifacts that are deleted before it rests.
const ARTIFACTS_MAX: u32 = 100;
/// Of them, how many at the same time: a bucket takes its time for each.
const ARTIFACTS_AT_ONCE: usize = 8;
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
        let more_traces = match self.stores.retention.retire(self.clock.now(), kept, ROWS_MAX).await {
            Ok(Retired { traces, rows, more }) => {
                if traces > 0 {
                    tracing::info!(traces, rows, "old traces were deleted");
                }
                more
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "old traces are not deleted");
                return LOOK_EVERY.max(RETRY_AFTER);
            }
        };
        // Traces go on where the artifact store is away; what is nobody's waits there.
        let more_artifacts = self.delete_artifacts().await.unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "outputs of old traces are not deleted from the artifact store");
            false
        });
        if more_traces || more_artifacts { REST * begin.elapsed() } else { LOOK_EVERY }
    }

    /// Deletes some artifacts that are nobody's, and answers whether there may be more. Another host may be at the same ones: twice is as good as once.
    async fn delete_artifacts(&self) -> Result<bool, StoreError> {
        let found = self.stores.artifacts.ownerless(ARTIFACTS_MAX).await?;
        if found.is_empty() {
            return Ok(false);
        }
        let is_full = found.len() as u64 == u64::from(ARTIFACTS_MAX);
        let (mut gone, mut failed): (Vec<Digest>, Option<StoreError>) = (Vec::new(), None);
        let mut deletes = futures::stream::iter(found)
            .map(|digest| async move { self.stores.blobs.delete(&digest).await.map(|()| digest) })
            .buffer_unordered(ARTIFACTS_AT_ONCE);
        while let Some(deleted) = deletes.next().await {
            match deleted {
                Ok(digest) => gone.push(digest),
                Err(error) => failed = Some(error),
            }
        }
        // Only now, so that a host that dies in between leaves the rest to be found.
        self.stores.artifacts.forget(&gone).await?;
        match failed {
            Some(error) => Err(error),
            None => {
                tracing::info!(artifacts = gone.len(), "outputs of old traces were deleted from the artifact store");
                Ok(is_full)
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
                break;
            }
        }
        while self.inner.delete_artifacts().await? {}
        Ok(traces)
    }
}
