//! Looking at a database without changing it: for operators, also while a tower works on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{Mutex, broadcast};

use super::near::Near;
use super::open::{APPLICATION_ID, BUSY_TIMEOUT, MIGRATIONS, base, newer};
use super::{SqliteStore, Writer};
use crate::StoreError;

/// Lines of SQLite's own check that are told.
const INTEGRITY_LINES_MAX: u32 = 20;

/// A database that is only looked at. [`SqliteStore`] inside it answers readers and [`crate::invariants`]; whatever would write fails.
pub struct Look {
    /// To ask the invariants of.
    pub store: SqliteStore,
    /// What the file says of itself.
    pub file: FileState,
    path: PathBuf,
    /// What the file looked like where nobody had it open; it must still do so at the end.
    still: Option<Stamp>,
}

/// What a database file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// The schema's version.
    pub schema: i64,
    /// Pages of the file.
    pub pages: u64,
    /// Of these, pages that hold nothing.
    pub free_pages: u64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Whether a tower has it open.
    pub in_use: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<std::time::SystemTime>,
}

/// Opens a database without changing it.
///
/// # Errors
/// [`StoreError::Unusable`]: it is not there, no database, or another program's. [`StoreError::OtherSchema`]: of another version.
pub async fn look(path: &Path) -> Result<Look, StoreError> {
    let shown = path.display();
    let unusable = |error: sqlx::Error| StoreError::Unusable(format!("{shown} cannot be read as a database: {error}"));
    let stamp = stamp(path).map_err(|error| StoreError::Unusable(format!("{shown} cannot be read: {error}")))?;
    let in_use = is_locked(path);
    // Where somebody has it open, or died with something in the log, SQLite's own locks are needed. Elsewhere, opening it in the usual way
    // would make a log, and leave it there.
    let still = !in_use && log_bytes(path) == 0;
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(still).busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
    let mut probe = options.connect().await.map_err(unusable)?;
    let schema = recognise(&mut probe, path).await?;
    probe.close().await.map_err(unusable)?;
    let mut conn = base().filename(path).read_only(true).immutable(still).pragma("query_only", "ON").connect().await?;
    let file = FileState {
        schema,
        pages: number(&mut conn, "PRAGMA page_count").await?,
        free_pages: number(&mut conn, "PRAGMA freelist_count").await?,
        page_bytes: number(&mut conn, "PRAGMA page_size").await?,
        in_use,
    };
    let writer = Writer { batches: None, conn, open: false };
    let store = SqliteStore {
        writer: Arc::new(Mutex::new(writer)),
        readers: None,
        near: Some(Arc::new(Near::to_look(path, still))),
        news: broadcast::channel(1).0,
        _lock: None,
    };
    Ok(Look { store, file, path: path.to_owned(), still: still.then_some(stamp) })
}

impl Look {
    /// What SQLite itself finds wrong with the file; nothing, if all is well. Reads all of it.
    pub async fn integrity(&self) -> Result<Vec<String>, StoreError> {
        let check = sqlx::AssertSqlSafe(format!("PRAGMA integrity_check({INTEGRITY_LINES_MAX})"));
        let lines: Vec<String> = sqlx::query_scalar(check).fetch_all(&mut *self.store.reader().await?).await?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// Whether what was seen was one state of the file: nobody began to write to it meanwhile.
    pub fn was_still(&self) -> bool {
        self.still.as_ref().is_none_or(|then| stamp(&self.path).is_ok_and(|now| now == *then) && log_bytes(&self.path) == 0)
    }
}

async fn recognise(conn: &mut SqliteConnection, path: &Path) -> Result<i64, StoreError> {
    let shown = path.display();
    let unusable = |error: sqlx::Error| StoreError::Unusable(format!("{shown} cannot be read as a database: {error}"));
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *conn).await.map_err(unusable)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'").fetch_one(&mut *conn).await.map_err(unusable)?;
    if application != APPLICATION_ID || tables == 0 {
        return Err(StoreError::Unusable(format!("{shown} is not the database of a tower")));
    }
    let schema: Option<i64> = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(conn).await.map_err(unusable)?;
    match (schema.unwrap_or(0), schema_of_this_version()) {
        (there, ours) if there > ours => Err(newer(path)),
        (there, ours) if there < ours => Err(StoreError::OtherSchema(format!(
            "{shown} was written by an older version of the tower: its schema is {there}, this tower's is {ours}; a tower of this version brings it up to date when it starts on it"
        ))),
        (there, _) => Ok(there),
    }
}

async fn number(conn: &mut SqliteConnection, pragma: &'static str) -> Result<u64, StoreError> {
    let number: i64 = sqlx::query_scalar(pragma).fetch_one(conn).await?;
    Ok(u64::try_from(number).unwrap_or(0))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Whether a tower holds the file's lock. It is held for an instant, for which a tower that starts waits.
fn is_locked(path: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(beside(path, ".lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// What of the file's latest is in its log and not in itself, in bytes.
fn log_bytes(path: &Path) -> u64 {
    std::fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len())
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(std::io::Error::other("it is a folder; the database is a file"));
    }
    Ok(Stamp { bytes: metadata.len(), modified: metadata.modified().ok() })
}

/// The schema that this version of the tower reads and writes.
pub fn schema_of_this_version() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}
