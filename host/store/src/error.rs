//! What can go wrong at the database.

use std::io;

/// A failure of the store; never a refusal of what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be reached, was locked for too long, is full, or gave up.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The same, of a batch on SQLite.
    #[error("the database failed")]
    Batch(#[from] rusqlite::Error),
    /// The schema could not be brought up to date.
    #[error("the database's schema could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this version cannot read.
    #[error("table {table} holds a value that cannot be read: {what}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The value, or why.
        what: String,
    },
    /// The artifact store failed.
    #[error("the artifact store failed at {what}")]
    Blobs {
        /// What was being done.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Other hosts changed the same at the same time, again and again.
    #[error("other hosts changed the same at the same time, again and again; try again")]
    Raced,
    /// The database does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The database took a statement and has not said a word since, for longer than it lets any run.
    #[error("the database has not answered a statement for {0:?}; its connections are given up")]
    Silent(std::time::Duration),
    /// Another process has the database open.
    #[error("{0}")]
    InUse(String),
    /// The database was written by another version of the tower.
    #[error("{0}")]
    OtherSchema(String),
    /// The database file cannot be used.
    #[error("{0}")]
    Unusable(String),
}

impl StoreError {
    /// Whether the database or the disk is away or cannot be written, so that the same may succeed later; else it is this request that
    /// cannot be taken.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => !(error.is_unique_violation() || error.is_check_violation() || error.is_foreign_key_violation()),
            Self::Batch(rusqlite::Error::SqliteFailure(error, _)) => !REFUSALS.contains(&error.extended_code),
            Self::Database(_) | Self::Batch(_) | Self::Raced | Self::Unreachable(_) | Self::Silent(_) => true,
            Self::Blobs { source, .. } => passes(source),
            Self::Migrate(_) | Self::Inconsistent { .. } | Self::InUse(_) | Self::OtherSchema(_) | Self::Unusable(_) => false,
        }
    }

    /// A value in `table` that cannot be read.
    pub(crate) fn inconsistent(table: &'static str, what: impl std::fmt::Display) -> Self {
        Self::Inconsistent { table, what: what.to_string() }
    }
}

/// What SQLite says of a row that cannot be: a key that is there, a check that fails, a reference to nothing.
const REFUSALS: [i32; 4] = [
    rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE,
    rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
    rusqlite::ffi::SQLITE_CONSTRAINT_CHECK,
    rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY,
];

/// Whether a file error is one that passes: too little room, memory or descriptors, or a device or a server that does not answer. A damaged file stays
/// damaged, and one that may not be written will not be.
fn passes(error: &io::Error) -> bool {
    use std::io;

    use io::ErrorKind as Kind;
    /// EIO, ENFILE, EMFILE.
    const NUMBERS: [i32; 3] = [5, 23, 24];
    let kinds = [
        Kind::StorageFull,
        Kind::QuotaExceeded,
        Kind::FileTooLarge,
        Kind::OutOfMemory,
        Kind::ResourceBusy,
        Kind::StaleNetworkFileHandle,
        Kind::TimedOut,
        Kind::HostUnreachable,
        Kind::Interrupted,
        Kind::WouldBlock,
    ];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|number| NUMBERS.contains(&number))
}
