//! Opening a database, and what makes one unusable.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{Mutex, broadcast};
use tower_domain::clock::Timestamp;

use super::log::{self, Log};
use super::near::Near;
use super::{Batches, NEWS_MAX, Place, SqliteOptions, SqliteStore, Writer};
use crate::StoreError;
use crate::apply::ClaimOrder;
use crate::fault::{self, Guard, Point};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// `PRAGMA application_id` of a tower's database: "TOWR".
pub(super) const APPLICATION_ID: i64 = 0x544F_5752;

/// How long a statement waits for a lock that another process holds on the file: a backup, say.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest file that is looked through for damage before it is used: what can be read in a moment.
const CHECKED_BYTES_MAX: u64 = 64 << 20;

/// SQLite's file system for databases that are nowhere but in memory.
const MEMORY_VFS: &str = "memdb";

/// Page cache of the connection of batches, in KiB.
const WRITER_CACHE_KIB: u32 = 16 * 1024;

/// Page cache of any other connection, in KiB.
const READER_CACHE_KIB: u32 = 8 * 1024;

/// What is left of the write-ahead log on disk after that, in bytes.
const LOG_BYTES_MAX: u32 = 64 << 20;

/// Prepared statements that a connection keeps.
pub(super) const STATEMENTS_MAX: usize = 512;

/// Rows that may lie between SQLite's thread and the reader of an answer.
const ROWS_AHEAD: usize = 512;

/// Opens the database, or makes it, and brings its schema up to date.
///
/// Refuses before anything is changed: with [`StoreError::InUse`] a file that another process has open, with [`StoreError::Unusable`] one
/// that cannot be written, that is no database or another program's, with [`StoreError::OtherSchema`] one that a newer version wrote.
pub async fn open(options: SqliteOptions) -> Result<SqliteStore, StoreError> {
    let (connect, lock) = match &options.place {
        Place::Memory => {
            static MADE: AtomicU64 = AtomicU64::new(0);
            // Connections of this process that know its name share it.
            let name = format!("/tower-{}", MADE.fetch_add(1, Ordering::Relaxed));
            (base().filename(name).vfs(MEMORY_VFS), None)
        }
        Place::File(path) => {
            let lock = prepare(path)?;
            probe(path).await?;
            let connect = base()
                .filename(path)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .pragma("wal_autocheckpoint", log::MOVE_AT.to_string())
                .pragma("journal_size_limit", LOG_BYTES_MAX.to_string());
            (connect, Some(Arc::new(lock)))
        }
    };
    let mut conn = connect.clone().pragma("cache_size", format!("-{READER_CACHE_KIB}")).connect().await?;
    migrate(&mut conn, &options.place).await?;
    if !fault::is_on(Guard::Dedupe) {
        // It would refuse what the guard lets through.
        sqlx::query("DROP INDEX IF EXISTS events_outside").execute(&mut conn).await?;
    }
    if !fault::is_on(Guard::CronOnce) {
        // Likewise: the same table without its key.
        sqlx::query("DROP TABLE cron_fires").execute(&mut conn).await?;
        sqlx::query("CREATE TABLE cron_fires (definition_id TEXT NOT NULL, instant INTEGER NOT NULL, trace_id BLOB NOT NULL) STRICT")
            .execute(&mut conn)
            .await?;
    }
    let order = ClaimOrder { virtual_time: super::tx_queue::virtual_time(&mut conn).await?, ..ClaimOrder::default() };
    // The operator may have changed what holds at them.
    sqlx::query("UPDATE gates SET opens_at = 0").execute(&mut conn).await?;
    let furthest = super::tx_read::newest(&mut conn).await?;
    let conn_of_batches = batches(connect.get_filename(), &options.place)?;
    let log = match &options.place {
        Place::Memory => None,
        Place::File(path) => Some(Log::take_over(&conn_of_batches, beside(path)?)?),
    };
    let batches = Batches { conn: conn_of_batches, log, order, claimed: HashMap::new(), nothing_waits: false, latest: Timestamp::from_micros(0), furthest };
    let readers = lock.is_some().then(|| {
        SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect.pragma("query_only", "ON").pragma("cache_size", format!("-{READER_CACHE_KIB}")))
    });
    let near = match &options.place {
        Place::Memory => None,
        Place::File(path) => Some(Arc::new(Near::beside_writers(path))),
    };
    Ok(SqliteStore {
        writer: Arc::new(Mutex::new(Writer { batches: Some(batches), conn, open: false })),
        readers,
        near,
        news: broadcast::channel(NEWS_MAX).0,
        _lock: lock,
    })
}

/// The connection of batches, to a database that is up to date.
fn batches(name: &Path, place: &Place) -> Result<rusqlite::Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match place {
        Place::Memory => rusqlite::Connection::open_with_flags_and_vfs(name, flags, MEMORY_VFS)?,
        Place::File(_) => {
            let conn = beside(name)?;
            conn.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
            conn
        }
    };
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))?;
    // Parameters are no reason to plan a statement anew, which those of partial indexes would be otherwise, each time.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(conn)
}

/// A connection to a file that writes to it durably.
fn beside(path: &Path) -> Result<rusqlite::Connection, StoreError> {
    let conn = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    Ok(conn)
}

pub(super) fn base() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .busy_timeout(BUSY_TIMEOUT)
        // Nothing is deleted that others point at, and checking each reference would cost a look-up a row.
        .foreign_keys(false)
        .pragma("temp_store", "MEMORY")
        .statement_cache_capacity(STATEMENTS_MAX)
        .row_buffer_size(ROWS_AHEAD)
        .thread_name(|number| format!("sqlite-{number}"))
        .disable_statement_logging()
}

/// Takes the lock of a file and looks at it from outside.
fn prepare(path: &Path) -> Result<File, StoreError> {
    let shown = path.display();
    if path.is_dir() {
        return Err(StoreError::Unusable(format!("{shown} is a folder; the database is a file")));
    }
    let lock_path = PathBuf::from(format!("{shown}.lock"));
    let lock = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&lock_path)
        .map_err(|error| StoreError::Unusable(format!("{} cannot be written ({error}); the database needs its folder", lock_path.display())))?;
    match locked(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(format!("{shown} is in use by another tower (it holds {})", lock_path.display()))),
        Err(TryLockError::Error(error)) => return Err(StoreError::Unusable(format!("{} cannot be locked ({error})", lock_path.display()))),
    }
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(path)
        .map_err(|error| StoreError::Unusable(format!("{shown} cannot be written ({error})")))?;
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head).map_err(|error| StoreError::Unusable(format!("{shown} cannot be read ({error})")))?;
    if !head.is_empty() && head != b"SQLite format 3\0" {
        return Err(StoreError::Unusable(format!("{shown} is not a SQLite database")));
    }
    Ok(lock)
}

/// Takes the lock. Whoever only looks at a database holds it for an instant, and is waited for.
fn locked(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..10 {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            answer => return answer,
        }
    }
    lock.try_lock()
}

/// What SQLite calls a page that is none.
const SQLITE_CORRUPT: &str = "11";

/// Looks at a file that is there with a connection that changes nothing.
async fn probe(path: &Path) -> Result<(), StoreError> {
    let shown = path.display();
    let damaged = |what: &str| StoreError::Unusable(format!("{shown} is damaged ({}); restore a copy of it", what.replace('\n', " ")));
    // Which of the statements meets a damaged page first depends on where it is.
    let broken = |error: sqlx::Error| match error.as_database_error().and_then(|error| error.code()) {
        Some(code) if code == SQLITE_CORRUPT => damaged(&error.to_string()),
        _ => StoreError::Unusable(format!("{shown} cannot be used as a database: {error}")),
    };
    let mut conn = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT).disable_statement_logging().connect().await.map_err(broken)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetch_one(&mut conn).await.map_err(broken)?;
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut conn).await.map_err(broken)?;
    // A tower that died while it made the file leaves the table of migrations, or nothing.
    let begun: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'").fetch_one(&mut conn).await.map_err(broken)?;
    if tables > begun && application != APPLICATION_ID {
        return Err(StoreError::Unusable(format!("{shown} is the database of another program")));
    }
    if begun > 0 {
        let newest: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut conn).await.map_err(broken)?;
        if newest > MIGRATIONS.iter().map(|migration| migration.version).max() {
            return Err(newer(path));
        }
    }
    if std::fs::metadata(path).is_ok_and(|found| found.len() <= CHECKED_BYTES_MAX) {
        // Whether pages are whole; what is on them is for the invariants.
        sqlx::query("PRAGMA ignore_check_constraints = ON").execute(&mut conn).await.map_err(broken)?;
        let damage: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut conn).await.map_err(broken)?;
        if damage != "ok" {
            return Err(damaged(&damage));
        }
    }
    conn.close().await.map_err(broken)
}

pub(super) fn newer(path: &Path) -> StoreError {
    StoreError::OtherSchema(format!("{} was written by a newer version of the tower; run that one, or restore a copy from before", path.display()))
}

async fn migrate(conn: &mut SqliteConnection, place: &Place) -> Result<(), StoreError> {
    if fault::is_armed(Point::MigrationApplied) {
        for migration in MIGRATIONS.iter() {
            MIGRATIONS.run_direct(Some(migration.version), conn, false).await?;
            fault::point(Point::MigrationApplied).await?;
        }
    }
    match (MIGRATIONS.run_direct(None, conn, false).await, place) {
        (Ok(()), _) => Ok(()),
        (Err(MigrateError::VersionMissing(_)), Place::File(path)) => Err(newer(path)),
        (Err(MigrateError::VersionMismatch(version)), Place::File(path)) => {
            Err(StoreError::Unusable(format!("step {version} of the schema of {} is not this tower's: it was made by an unreleased version", path.display())))
        }
        (Err(error), _) => Err(error.into()),
    }
}
