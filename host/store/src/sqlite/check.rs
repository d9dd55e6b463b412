//! The invariants.

use async_trait::async_trait;
use sqlx::AssertSqlSafe;

use super::SqliteStore;
use crate::StoreError;
use crate::invariants::{Inspect, Invariant};
use crate::rows::checks::{RETIRING, query_for, violation};

#[async_trait]
impl Inspect for SqliteStore {
    async fn violations(&self, invariant: Invariant) -> Result<Vec<String>, StoreError> {
        let mut conn = self.reader().await?;
        let mut rows = sqlx::query(AssertSqlSafe(query_for(invariant, false)?)).fetch_all(&mut *conn).await?;
        if !rows.is_empty() {
            // Of traces that are being deleted, perhaps, or were a moment ago.
            let retiring: i64 = sqlx::query_scalar(RETIRING).fetch_one(&mut *conn).await?;
            rows = sqlx::query(AssertSqlSafe(query_for(invariant, retiring > 0)?)).fetch_all(&mut *conn).await?;
        }
        rows.iter().map(violation).collect()
    }
}
