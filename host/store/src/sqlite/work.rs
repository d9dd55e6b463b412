//! A batch as a transaction.

use async_trait::async_trait;

use super::SqliteStore;
use super::tx::SqliteTx;
use crate::StoreError;
use crate::work::{Batch, Committed, WorkStore};

#[async_trait]
impl WorkStore for SqliteStore {
    #[tracing::instrument(name = "store.commit", level = "debug", skip_all, fields(commands = batch.commands.len()))]
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let mut guard = self.write().await;
        let writer = &mut *guard;
        writer.open = true;
        // Not known until the end is seen.
        let nothing_waits = std::mem::take(&mut writer.nothing_waits);
        let mut tx = SqliteTx::begin(&mut writer.conn, nothing_waits);
        let ended = match crate::apply::run(&mut tx, batch, writer.virtual_time).await {
            Ok(done) => {
                let nothing_waits = tx.nothing_waits;
                tx.commit().await.map(|()| (done, nothing_waits))
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(((committed, virtual_time), nothing_waits)) => {
                writer.open = false;
                writer.virtual_time = virtual_time;
                writer.nothing_waits = nothing_waits;
                Ok(committed)
            }
            Err(error) => {
                writer.settle().await;
                Err(error)
            }
        }
    }
}
