//! Looking at a database without changing it, while hosts work on it or not.

use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Row};

use super::open::{ACQUIRE_TIMEOUT, MIGRATIONS, PATIENCE, Place, settings};
use super::writers::Writers;
use super::{Order, PostgresStore, Time};
use crate::StoreError;
use crate::apply::ClaimOrder;

/// A database to look at. Nothing of it writes: its connections are read only.
pub struct Look {
    /// Answers readers, and asks about the invariants.
    pub store: PostgresStore,
    /// What the server says of itself.
    pub server: ServerState,
}

/// What was found at a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// The database in words, without a password.
    pub shown: String,
    /// The server's version.
    pub version: String,
    /// The schema that the database has: this tower's.
    pub schema: i64,
    /// Size of the database.
    pub bytes: u64,
    /// `synchronous_commit`, as this user's connections have it before a tower sets it on its own.
    pub synchronous_commit: String,
    /// Whether what is committed goes to the disk.
    pub fsync: bool,
    /// Whether pages that were half written at a power cut can be repaired.
    pub full_page_writes: bool,
    /// Connections that the server takes.
    pub connections_max: i64,
}

/// Opens a database only to look. Refuses what [`super::open`] refuses, and a schema that is older or was not made yet.
pub async fn look(url: &str) -> Result<Look, StoreError> {
    let connect = PgConnectOptions::from_str(url).map_err(|error| StoreError::Unusable(format!("this is no address of a PostgreSQL database: {error}")))?;
    let connect = connect.application_name("tower doctor").disable_statement_logging();
    let place = Place::of(&connect);
    let mut conn = connect.clone().connect().await.map_err(|error| place.refused(error))?;
    if !place.is_up_to_date(&mut conn).await? {
        return Err(StoreError::OtherSchema(format!(
            "the schema of {} is older than this tower's or was not made yet; a tower of this version brings it up to date when it starts on it",
            place.shown
        )));
    }
    let row = sqlx::query(
        "SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync') = 'on', \
         current_setting('full_page_writes') = 'on', current_setting('max_connections')::bigint, pg_database_size(current_database())",
    )
    .fetch_one(&mut conn)
    .await?;
    let server = ServerState {
        shown: place.shown,
        version: row.get(0),
        schema: MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0),
        bytes: u64::try_from(row.get::<i64, _>(5)).unwrap_or(0),
        synchronous_commit: row.get(1),
        fsync: row.get(2),
        full_page_writes: row.get(3),
        connections_max: row.get(4),
    };
    conn.close().await?;
    let reads = settings(connect.clone(), 0).options([("default_transaction_read_only", "on")]);
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_lazy_with(reads);
    let order = Arc::new(Mutex::new(Order::new(ClaimOrder::default())));
    Ok(Look { store: PostgresStore { writers: Writers::new(pool.clone(), PATIENCE), readers: pool, connect, order, time: Time::OfDatabase }, server })
}
