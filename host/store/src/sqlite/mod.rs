//! The embedded back end: one file, or nothing but memory.
//!
//! In reading order:
//!
//! - this file: opening, and who may use a connection when
//! - `open`: what makes a file unusable, said clearly
//! - `look`: opening it only to look
//! - `log`: the write-ahead log, moved into the file beside the writer
//! - `rows`: parameters and rows; what they mean is in `crate::rows`
//! - `work`: a batch as a transaction; `tx` with `tx_read`, `tx_write`, `tx_queue`, `tx_gates`: its statements
//! - `nouns`: tasks with the paths to them
//! - `read`, `results`, `lists`: what readers ask; `near`: the short reads among them
//! - `definitions`, `modules`: what people put in; `schedules`: when definitions fire by themselves; `sessions`: users' continuing work
//! - `hosts`: engines that share this database, and what they tell each other
//! - `artifacts`: which trace large outputs go with; `retention`: deletes what is kept no longer
//! - `check`: the queries behind [`crate::invariants`]
//!
//! SQLite has one writer, so what writes is behind one lock: the connection of batches, through `rusqlite`, which asks SQLite on the thread it
//! is called on, and that of everything else, through `sqlx`, which has a thread for each connection and takes a statement there and back.
//! Readers have connections of their own, likewise of two kinds, and see the last commit; in memory they share those of the writers.

mod artifacts;
mod check;
mod definitions;
mod hosts;
mod lists;
mod log;
mod look;
mod modules;
mod near;
mod nouns;
mod open;
#[cfg(test)]
mod plans;
mod read;
mod results;
mod retention;
mod rows;
mod schedules;
mod sessions;
mod tx;
mod tx_gates;
mod tx_queue;
mod tx_read;
mod tx_write;
mod work;

use std::collections::HashMap;
use std::fs::File;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};
use tower_domain::clock::Timestamp;
use tower_domain::id::TaskId;

use log::Log;
pub use look::{FileState, Look, look, schema_of_this_version};
use near::Near;
pub use open::open;

use crate::apply::ClaimOrder;
use crate::apply::tx::TaskRow;
use crate::blobs::BlobStore;
use crate::news::News;
use crate::{StoreError, Stores};

/// Declares the statements of a file, and lists them for the test that looks at their plans.
macro_rules! statements {
    ($($(#[$meta:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$meta])* const $name: &str = $sql;)+
        #[cfg(test)]
        pub(super) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}
use statements;

/// Where the database is, and how it is used.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Where.
    pub place: Place,
    /// Connections for readers, at least one. Each may hold a page cache of 8 MiB. Memory has none of its own.
    pub readers: u32,
}

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it is gone when the process ends, or the last handle on it.
    Memory,
    /// In this file, which is made if it is not there, with two more beside it (`-wal`, `-shm`) and a lock (`.lock`).
    File(PathBuf),
}

impl SqliteOptions {
    /// In memory.
    pub fn memory() -> Self {
        Self { place: Place::Memory, readers: 1 }
    }

    /// In a file, with four readers.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::File(path.into()), readers: 4 }
    }
}

/// News that a host may be behind before it looks at everything.
const NEWS_MAX: usize = 256;

/// An open database. Cheap to clone; implements the traits of [`Stores`] but for bytes.
#[derive(Clone)]
pub struct SqliteStore {
    writer: Arc<Mutex<Writer>>,
    /// None: readers share the writer's connection.
    readers: Option<SqlitePool>,
    /// None: short reads share the writer's as well.
    near: Option<Arc<Near>>,
    /// What those that share this one tell each other, each with who tells it.
    news: broadcast::Sender<(Box<str>, News)>,
    /// Held for as long as the database is open.
    _lock: Option<Arc<File>>,
}

impl SqliteStore {
    /// As a host is handed it, with bytes kept in `blobs`.
    pub fn stores(&self, blobs: Arc<dyn BlobStore>) -> Stores {
        let this = Arc::new(self.clone());
        Stores {
            work: this.clone(),
            read: this.clone(),
            definitions: this.clone(),
            modules: this.clone(),
            schedules: this.clone(),
            sessions: this.clone(),
            hosts: this.clone(),
            artifacts: this.clone(),
            retention: this.clone(),
            news: this,
            blobs,
        }
    }

    /// Ends the readers and moves what is in the write-ahead log into the file. Without it nothing is lost either.
    pub async fn close(&self) -> Result<(), StoreError> {
        if let Some(readers) = &self.readers {
            readers.close().await;
            if let Some(near) = &self.near {
                near.close();
            }
            let mut writer = self.write().await;
            if let Some(log) = writer.batches.as_mut().and_then(|batches| batches.log.as_mut()) {
                log.rest();
            }
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut writer.conn).await?;
        }
        Ok(())
    }

    /// The writer, with no transaction open.
    async fn write(&self) -> OwnedMutexGuard<Writer> {
        let mut writer = self.writer.clone().lock_owned().await;
        writer.settle().await;
        writer
    }

    /// A connection to read from.
    async fn reader(&self) -> Result<ReadConnection, StoreError> {
        match &self.readers {
            Some(pool) => Ok(ReadConnection::Own(pool.acquire().await?)),
            None => Ok(ReadConnection::Shared(self.write().await)),
        }
    }
}

/// The connections that write, in turns.
struct Writer {
    /// None: it was opened to be looked at.
    batches: Option<Batches>,
    /// For everything else that is written, on a thread of its own.
    conn: SqliteConnection,
    /// A transaction was begun on it and its end was not seen: whoever began it failed, or was dropped in the middle.
    open: bool,
}

/// The connection that batches are written with, on the thread of whoever has one, and what is known of the last of them.
struct Batches {
    conn: rusqlite::Connection,
    /// None: in memory there is none.
    log: Option<Log>,
    order: ClaimOrder,
    /// Tasks that are claimed, as far as it is known: of an earlier life they are not.
    claimed: HashMap<TaskId, TaskRow>,
    /// Whether nothing in the queue waits for its time, so that nobody needs to look.
    nothing_waits: bool,
    /// When the latest batch happened.
    latest: Timestamp,
    /// The latest instant at which anything happened, as far as it is known: a clock that is set back goes on behind it.
    furthest: Timestamp,
}

// sqlx's own `Transaction` is not used: when SQLite itself rolls a transaction back (full disk, I/O error), the `ROLLBACK` that
// follows fails, sqlx goes on counting the transaction as open, and refuses every later `BEGIN IMMEDIATE` of the connection.
impl Writer {
    /// Takes the write lock of the database.
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.settle().await;
        self.open = true;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut self.conn).await?;
        Ok(())
    }

    /// Makes everything since [`Self::begin`] durable.
    async fn commit(&mut self) -> Result<(), StoreError> {
        match sqlx::query("COMMIT").execute(&mut self.conn).await {
            Ok(_) => {
                self.open = false;
                Ok(())
            }
            Err(error) => {
                self.settle().await;
                Err(error.into())
            }
        }
    }

    /// Undoes a transaction whose end was not seen.
    async fn settle(&mut self) {
        if self.open {
            // It fails when there is none any more, and then there is nothing to undo.
            let undone = sqlx::query("ROLLBACK").execute(&mut self.conn).await;
            tracing::debug!(undone = undone.is_ok(), "transaction rolled back");
            self.open = false;
        }
    }
}

/// A connection to read from, for the time of one question.
enum ReadConnection {
    Own(PoolConnection<sqlx::Sqlite>),
    Shared(OwnedMutexGuard<Writer>),
}

impl Deref for ReadConnection {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        match self {
            Self::Own(conn) => conn,
            Self::Shared(writer) => &writer.conn,
        }
    }
}

impl DerefMut for ReadConnection {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Own(conn) => conn,
            Self::Shared(writer) => &mut writer.conn,
        }
    }
}
