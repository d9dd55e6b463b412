//! The back end for many hosts: PostgreSQL.
//!
//! In reading order:
//!
//! - this file: options, connections
//! - `open`: what makes a database unusable, said clearly
//! - `look`: opening it only to look
//! - `rows`, `values`: parameters, rows, and many rows in one statement; what they mean is in `crate::rows`
//! - `writers`: connections that write, and when they are given up
//! - `work`: a batch as a transaction, tried again where hosts got into each other's way; `tx` with `tx_read`, `tx_write`, `tx_queue`,
//!   `tx_gates`: its statements
//! - `nouns`: tasks with the paths to them
//! - `read`, `results`, `lists`: what readers ask
//! - `definitions`, `modules`: what people put in; `schedules`: when definitions fire by themselves; `sessions`: users' continuing work
//! - `blobs`: bytes, where no other place is named for them
//! - `hosts`: who works on the database, and what they tell each other
//! - `artifacts`: which trace large outputs go with; `retention`: deletes what is kept no longer
//! - `check`: the queries behind [`crate::invariants`]
//!
//! A batch is one READ COMMITTED transaction. **A trace's row is the lock of its tasks**: whoever loads tasks to change them holds their
//! traces first, all that a batch is about in one statement and in the order of their ids. What is taken from the queue is locked with its
//! traces, and left to others where they hold it. So hosts wait for each other only at the beginning of a batch, and the order is always:
//! the gates of limits where there are any, traces, schedules, the rest. What slips through all the same, PostgreSQL finds, and the batch is run again.

mod artifacts;
mod blobs;
mod check;
mod definitions;
mod hosts;
mod lists;
mod look;
mod modules;
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
mod values;
mod work;
mod writers;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::{PgPool, Postgres, Transaction};
use tower_domain::clock::Timestamp;

pub use look::{Look, ServerState, look};
pub use open::open;
use writers::Writers;

use crate::apply::ClaimOrder;
use crate::blobs::BlobStore;
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
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`.
    pub url: String,
    /// Most connections for batches and whatever else writes.
    pub writers: u32,
    /// Most connections for readers.
    pub readers: u32,
    /// Whose time it is.
    pub time: Time,
    /// How long the answer to one statement of a batch is waited for before the connections are given up. Longer than any statement may take.
    pub patience: Duration,
}

/// Whose clock says when a batch happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// The database's: one for all hosts, so that they can judge each other's leases.
    OfDatabase,
    /// The caller's, as the batch has it: for tests that make their own time.
    OfCaller,
}

impl PostgresOptions {
    /// Four connections that write, eight that read, the database's time, and 65 s of patience.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), writers: 4, readers: 8, time: Time::OfDatabase, patience: open::PATIENCE }
    }
}

/// An open database. Cheap to clone; implements the traits of [`Stores`] but for bytes.
#[derive(Clone)]
pub struct PostgresStore {
    writers: Writers,
    readers: PgPool,
    /// For those who listen to news, each on a connection of its own.
    connect: PgConnectOptions,
    order: Arc<Mutex<Order>>,
    time: Time,
}

/// What this host knows of the order of claims. It is the same for all hosts as long as they claim; one that does not asks now and then.
struct Order {
    claims: ClaimOrder,
    /// When virtual time was asked for.
    asked_at: Timestamp,
    /// What the latest batch saw of the queue at its end; none: nothing is known.
    seen: Option<Seen>,
    /// For how many further batches the lock of gates is taken before it is sure to be needed, as batches came to gates of late.
    gates_ahead: u32,
}

/// What a batch saw of the queue at its end. Others may have changed it since: whoever goes by it looks again at its own end, and what has come
/// meanwhile is for the next batch.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// When the next waiting task is due, or the next gate opens.
    next_due: Option<Timestamp>,
    /// Whether a task can be claimed by this process.
    ready: bool,
    /// Whether a task can be claimed in a lane of its own.
    elsewhere: bool,
}

impl Order {
    /// That of an engine or a look that knows nothing yet.
    fn new(claims: ClaimOrder) -> Self {
        Self { claims, asked_at: Timestamp::from_micros(0), seen: None, gates_ahead: 0 }
    }
}

impl PostgresStore {
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

    /// Ends the connections.
    pub async fn close(&self) {
        self.writers.close().await;
        self.readers.close().await;
    }

    /// A transaction that writes.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.writers.begin().await
    }

    /// When something of this transaction happens.
    async fn instant(&self, tx: &mut Transaction<'static, Postgres>, now: Timestamp) -> Result<Timestamp, StoreError> {
        match self.time {
            Time::OfCaller => Ok(now),
            Time::OfDatabase => tx_read::clock(tx).await,
        }
    }

    /// A connection to read from.
    async fn reader(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        Ok(self.readers.acquire().await?)
    }
}
