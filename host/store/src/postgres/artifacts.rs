//! Whose large outputs are.

use async_trait::async_trait;
use sqlx::query_with;
use tower_domain::code_ref::Digest;
use tower_domain::id::TraceId;

use super::rows::{Array, Bind, Columns, Params};
use super::{PostgresStore, statements};
use crate::StoreError;
use crate::artifacts::ArtifactStore;

statements! {
    // A trace that is being retired is waited for: it would not see the row.
    OWNER = "SELECT 1 FROM traces AS t WHERE t.trace_id = $1 FOR KEY SHARE";
    OWN = "INSERT INTO artifacts (digest, trace_id) VALUES ($1, $2) ON CONFLICT (digest) DO NOTHING";
    OWNERLESS = "SELECT a.digest FROM artifacts AS a WHERE a.trace_id IS NULL LIMIT $1";
    FORGET = "DELETE FROM artifacts WHERE digest = ANY($1) AND trace_id IS NULL";
}

#[async_trait]
impl ArtifactStore for PostgresStore {
    async fn own(&self, digest: &Digest, trace: TraceId) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let mut params = Params::new();
        params.id(trace);
        let is_there = query_with(OWNER, params.into_list()).fetch_optional(&mut *tx).await?.is_some();
        if is_there {
            let mut params = Params::new();
            params.bytes(&digest.0).id(trace);
            query_with(OWN, params.into_list()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(is_there)
    }

    async fn ownerless(&self, limit: u32) -> Result<Vec<Digest>, StoreError> {
        let mut params = Params::new();
        params.int(limit);
        let rows = query_with(OWNERLESS, params.into_list()).fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(|row| Columns::of(row, "artifacts").digest()).collect()
    }

    async fn forget(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let mut params = Params::new();
        params.array(Array::digests(digests));
        let mut tx = self.begin().await?;
        query_with(FORGET, params.into_list()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }
}
