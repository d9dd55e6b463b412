//! The invariants.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection};

use super::PostgresStore;
use crate::StoreError;
use crate::invariants::{Inspect, Invariant};
use crate::rows::checks::{RETIRING, query_for, violation};

/// These questions read whole tables: what the store's other statements are forbidden, and for as long as it takes.
const WHOLE_TABLES: &str = "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; \
     SET LOCAL enable_mergejoin = on; SET LOCAL enable_bitmapscan = on; SET LOCAL join_collapse_limit = 8";

/// What the queries say, and how it is said here.
const DIALECT: [(&str, &str); 5] = [
    ("lower(hex(a.digest))", "encode(a.digest, 'hex')"),
    ("hex(", "text("),
    ("payload ->>", "payload::json ->>"),
    ("t.gates ->>", "t.gates::json ->>"),
    ("json_each(t.gates) AS k", "LATERAL json_array_elements_text(t.gates::json) AS k (value)"),
];

fn asked(invariant: Invariant, retiring: bool) -> Result<String, StoreError> {
    let query = query_for(invariant, retiring)?;
    Ok(DIALECT.iter().fold(query, |query, (said, here)| query.replace(said, here)))
}

#[async_trait]
impl Inspect for PostgresStore {
    async fn violations(&self, invariant: Invariant) -> Result<Vec<String>, StoreError> {
        let mut conn = self.reader().await?;
        let mut tx = conn.begin().await?;
        sqlx::raw_sql(WHOLE_TABLES).execute(&mut *tx).await?;
        let mut rows = sqlx::query(AssertSqlSafe(asked(invariant, false)?)).fetch_all(&mut *tx).await?;
        if !rows.is_empty() {
            // Of traces that are being deleted, perhaps, or were a moment ago.
            let retiring: i64 = sqlx::query_scalar(RETIRING).fetch_one(&mut *tx).await?;
            rows = sqlx::query(AssertSqlSafe(asked(invariant, retiring > 0)?)).fetch_all(&mut *tx).await?;
        }
        rows.iter().map(violation).collect()
    }
}
