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
        let mut writer = self.write().await;
        writer.begin().await?;
        let virtual_time = writer.virtual_time;
        match crate::apply::run(&mut SqliteTx::new(&mut writer.conn), batch, virtual_time).await {
            Ok((committed, virtual_time)) => {
                writer.commit().await?;
                writer.virtual_time = virtual_time;
                Ok(committed)
            }
            Err(error) => {
                writer.settle().await;
                Err(error)
            }
        }
    }
}
