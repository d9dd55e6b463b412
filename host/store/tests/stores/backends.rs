//! The back ends that the suite is run on.

use std::any::Any;
use std::sync::Arc;

use tower_store::Stores;
use tower_store::blobs::MemoryBlobs;
use tower_store::invariants::Inspect;
use tower_store::postgres::{self, PostgresOptions, PostgresStore, Time};
use tower_store::sqlite::{self, SqliteOptions};
use tower_test_postgres::{Cluster, Database};

/// A fresh, empty database.
pub(crate) struct Backend {
    pub(crate) stores: Stores,
    pub(crate) inspect: Arc<dyn Inspect>,
    /// Whatever must live as long as the database.
    pub(crate) keep: Box<dyn Any + Send + Sync>,
}

pub(crate) async fn sqlite_memory() -> Backend {
    let store = sqlite::open(SqliteOptions::memory()).await.unwrap();
    Backend { stores: store.stores(Arc::new(MemoryBlobs::default())), inspect: Arc::new(store), keep: Box::new(()) }
}

pub(crate) async fn sqlite_file() -> Backend {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite::open(SqliteOptions::file(folder.path().join("tower.db"))).await.unwrap();
    Backend { stores: store.stores(Arc::new(MemoryBlobs::default())), inspect: Arc::new(store), keep: Box::new(folder) }
}

/// A fresh database of the test process's own PostgreSQL.
pub(crate) async fn postgres() -> Backend {
    let database = Cluster::shared().database();
    let store = host(&database).await;
    Backend { stores: store.stores(Arc::new(MemoryBlobs::default())), inspect: Arc::new(store), keep: Box::new(database) }
}

/// One host's store on a database that it shares with others.
pub(crate) async fn host(database: &Database) -> PostgresStore {
    postgres::open(PostgresOptions { time: Time::OfCaller, ..PostgresOptions::at(database.url()) }).await.unwrap()
}
