//! A batch as a transaction.

use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::{Handle, RuntimeFlavor};
use tower_domain::clock::Timestamp;

use super::tx::SqliteTx;
use super::{Batches, SqliteStore};
use crate::StoreError;
use crate::fault::{self, Point};
use crate::work::{Batch, Committed, WorkStore};

#[async_trait]
impl WorkStore for SqliteStore {
    #[tracing::instrument(name = "store.commit", level = "debug", skip_all, fields(commands = batch.commands.len()))]
    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        fault::point(Point::Committing).await?;
        let host = batch.host.clone();
        let mut guard = self.write().await;
        let batches = guard.batches.as_mut().ok_or_else(|| StoreError::Unusable("the database was opened to be looked at".to_owned()))?;
        // A batch waits for nothing but the disk. Where that would keep others from their turn, they are taken elsewhere.
        let committed = match Handle::try_current().map(|handle| (handle.runtime_flavor(), handle)) {
            Ok((RuntimeFlavor::MultiThread, handle)) => tokio::task::block_in_place(|| handle.block_on(batches.commit(batch)))?,
            Ok(_) | Err(_) => batches.commit(batch).await?,
        };
        for news in &committed.news {
            self.tell(&host, news.clone());
        }
        Ok(committed)
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        fault::point(Point::Committing).await?;
        let mut writer = self.write().await;
        writer.begin().await?;
        // The first page of the file, which has to go to the disk like any other.
        sqlx::query("PRAGMA user_version = 0").execute(&mut writer.conn).await?;
        writer.commit().await
    }
}

impl Batches {
    async fn commit(&mut self, batch: Batch) -> Result<Committed, StoreError> {
        // Not known until the end is seen.
        let nothing_waits = std::mem::take(&mut self.nothing_waits);
        let batch = Batch { now: in_order(batch.now, self.latest), ..batch };
        let mut tx = SqliteTx::begin(&mut self.conn, &mut self.claimed, nothing_waits)?;
        tx.is_set_back = batch.now < self.furthest;
        let (mut committed, order) = crate::apply::run(&mut tx, batch, self.order).await?;
        let nothing_waits = tx.nothing_waits;
        committed.statements = tx.statements;
        tx.commit()?;
        if let Some(log) = &mut self.log {
            log.committed(&self.conn);
        }
        (self.order, self.nothing_waits, self.latest) = (order, nothing_waits, committed.now);
        self.furthest = self.furthest.max(committed.now);
        Ok(committed)
    }
}

/// Batches that wait for each other may have looked at the clock in another order, and what they do happens in the order in which they do it.
/// A clock that was set back by more is believed.
fn in_order(now: Timestamp, latest: Timestamp) -> Timestamp {
    const APART_MAX: Duration = Duration::from_secs(1);
    if now < latest && latest.since(now) < APART_MAX { latest } else { now }
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::super::{SqliteOptions, SqliteStore, open};
    use crate::definitions::DefinitionStore;
    use crate::read::Reader;

    async fn pages_max(store: &SqliteStore, pages: i64) {
        let mut writer = store.write().await;
        sqlx::query(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).execute(&mut writer.conn).await.unwrap();
    }

    /// A full disk rolls the transaction back inside SQLite; the connection must go on.
    #[tokio::test]
    async fn a_full_disk_fails_what_does_not_fit_and_nothing_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(SqliteOptions::file(folder.path().join("tower.db"))).await.unwrap();
        let mut spec: tower_domain::definition::DefinitionSpec = serde_json::from_str(r#"{"actor_type":"AGENT","code_ref":"wasm://probe"}"#).unwrap();
        let id = "d".parse().unwrap();
        let now = tower_domain::clock::Timestamp::from_micros(1);
        pages_max(&store, 1).await;
        spec.description = "x".repeat(1 << 20);
        for _ in 0..3 {
            let error = store.put(&id, &spec, None, now).await.unwrap_err();
            assert!(format!("{error:?}").contains("full"), "{error:?}");
            assert!(store.find(&id).await.unwrap().is_none());
        }
        pages_max(&store, 1 << 30).await;
        store.put(&id, &spec, None, now).await.unwrap();
        store.ping().await.unwrap();
        assert_eq!(store.find(&id).await.unwrap().unwrap().spec, spec);
    }
}
