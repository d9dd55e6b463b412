//! Short reads, on the thread of whoever asks: a way to another thread and back costs more than most of them do.

use std::path::Path;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, Row};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::SqliteStore;
use super::open::{BUSY_TIMEOUT, STATEMENTS_MAX};
use super::rows::Binder;
use crate::StoreError;

/// Connections that are kept while nobody reads. More are opened where more read at once.
const IDLE_MAX: usize = 4;

/// Page cache of each, in KiB: what is read here is a row or a page, and lies in the system's cache.
const CACHE_KIB: i64 = 1024;

/// Connections to a file, each for one reader at a time.
#[derive(Debug)]
pub(super) struct Near {
    address: String,
    flags: OpenFlags,
    idle: Mutex<Vec<Connection>>,
}

impl Near {
    /// To a file that is written to at the same time.
    pub(super) fn beside_writers(path: &Path) -> Self {
        Self::at(path, "", OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// To a file that is only looked at; `is_still` says that nobody writes to it.
    pub(super) fn to_look(path: &Path, is_still: bool) -> Self {
        Self::at(path, if is_still { "?immutable=1" } else { "" }, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    fn at(path: &Path, query: &str, flags: OpenFlags) -> Self {
        let mut address = "file:".to_owned();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => address.push(char::from(*byte)),
                // What would mean something else in an address, or is no text.
                _ => address.push_str(&format!("%{byte:02x}")),
            }
        }
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        Self { address: address + query, flags, idle: Mutex::default() }
    }

    fn open(&self) -> Result<Connection, StoreError> {
        let conn = Connection::open_with_flags(&self.address, self.flags)?;
        conn.pragma_update(None, "query_only", true)?;
        conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(conn)
    }

    /// One that failed is not used again.
    fn read<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = self.idle.lock().pop();
        let conn = kept.map_or_else(|| self.open(), Ok)?;
        let found = read(&conn)?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_MAX {
            idle.push(conn);
        }
        Ok(found)
    }

    /// Lets go of the file, as far as nobody reads.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }
}

impl SqliteStore {
    /// Reads a row or some.
    pub(super) async fn near<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &self.near {
            Some(near) => near.read(read),
            // In memory there is one connection of the kind.
            None => match &self.write().await.batches {
                Some(batches) => read(&batches.conn),
                None => Err(StoreError::Unusable("the database was opened without a connection for this".to_owned())),
            },
        }
    }

    /// Reads a page of many rows: others have their turn elsewhere meanwhile.
    pub(super) async fn near_page<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match (&self.near, Handle::try_current().map(|handle| handle.runtime_flavor())) {
            (Some(near), Ok(RuntimeFlavor::MultiThread)) => tokio::task::block_in_place(|| near.read(read)),
            _ => self.near(read).await,
        }
    }
}

/// Runs a statement, and reads each row of its answer.
pub(super) fn query<T>(
    conn: &Connection,
    statement: &str,
    bind: impl FnOnce(&mut Binder<'_, '_>),
    mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(statement)?;
    let mut params = Binder::of(&mut statement);
    bind(&mut params);
    params.end()?;
    let (mut rows, mut found) = (statement.raw_query(), Vec::new());
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}
