//! Connections that write.
//!
//! A network that swallows what is sent looks like a database that is thinking, and TCP takes a quarter of an hour to tell them apart. The
//! database itself ends any statement that takes too long; what it has not answered well after that, it never will. Then no connection is to
//! be trusted any more, and all are given up together.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sqlx::{PgPool, Postgres, Transaction};

use crate::StoreError;

#[derive(Clone)]
pub(super) struct Writers {
    pool: Arc<RwLock<PgPool>>,
    /// How long an answer is waited for.
    pub(super) patience: Duration,
}

impl Writers {
    pub(super) fn new(pool: PgPool, patience: Duration) -> Self {
        Self { pool: Arc::new(RwLock::new(pool)), patience }
    }

    /// The connections as they are now.
    pub(super) fn pool(&self) -> PgPool {
        self.pool.read().clone()
    }

    /// A transaction.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let pool = self.pool();
        let mut broken = 0;
        loop {
            match answered(self.patience, pool.begin()).await {
                // Connections that lay idle while the database was started anew are of no use, and only this shows it.
                Err(StoreError::Database(sqlx::Error::Io(error))) if broken < pool.options().get_max_connections() => {
                    tracing::debug!(%error, "a connection was broken");
                    broken += 1;
                }
                begun => return begun,
            }
        }
    }

    /// Begins anew with fresh connections. Whoever uses one of the others keeps it until it breaks.
    pub(super) fn give_up(&self) {
        let mut pool = self.pool.write();
        let fresh = pool.options().clone().connect_lazy_with(pool.connect_options().as_ref().clone());
        *pool = fresh;
    }

    pub(super) async fn close(&self) {
        let pool = self.pool();
        pool.close().await;
    }
}

/// What the database answers, if it does.
pub(super) async fn answered<T, E: Into<StoreError>>(patience: Duration, asked: impl Future<Output = Result<T, E>>) -> Result<T, StoreError> {
    match tokio::time::timeout(patience, asked).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(StoreError::Silent(patience)),
    }
}
