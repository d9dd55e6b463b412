//! Opening a database, and what makes one unusable.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::work::Runs;
use super::writers::Writers;
use super::{Order, PostgresOptions, PostgresStore, tx_queue};
use crate::StoreError;
use crate::apply::ClaimOrder;
use crate::fault::{self, Guard, Point};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/postgres");

/// The oldest PostgreSQL that the statements are written for.
const VERSION_MIN: i32 = 140_000;

/// How long a statement waits for what another host holds, before it is taken for stuck.
const LOCK_TIMEOUT_MS: u32 = 10_000;

/// Longest statement of a batch.
const WRITE_TIMEOUT_MS: u32 = 60_000;

/// How long the answer to a statement of a batch is waited for: the database has ended it before.
pub(super) const PATIENCE: Duration = Duration::from_millis(WRITE_TIMEOUT_MS as u64 + 5_000);

/// Longest question of a reader.
const READ_TIMEOUT_MS: u32 = 30_000;

/// How long a host may stand still in the middle of a transaction until PostgreSQL undoes it, so that others go on.
const IDLE_TIMEOUT_MS: u32 = 15_000;

/// How long a reader or a batch waits for a connection.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements that a connection keeps.
const STATEMENTS_MAX: usize = 256;

/// Opens the database, and brings its schema up to date.
///
/// Refuses before anything is changed: with [`StoreError::Unreachable`] one that does not answer, with [`StoreError::Unusable`] one that is not
/// there, may not be written or is another program's, with [`StoreError::OtherSchema`] one that a newer version wrote.
pub async fn open(options: PostgresOptions) -> Result<PostgresStore, StoreError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| options.url.starts_with(scheme)) {
        return Err(StoreError::Unusable("this is no address of a PostgreSQL database, as in postgres://user@host/database".to_owned()));
    }
    let connect = PgConnectOptions::from_str(&options.url)
        .map_err(|error| StoreError::Unusable(format!("this is no address of a PostgreSQL database, as in postgres://user@host/database: {error}")))?
        .application_name("tower")
        // That a table of migrations is there already is no news.
        .options([("client_min_messages", "warning")])
        .statement_cache_capacity(STATEMENTS_MAX)
        .disable_statement_logging();
    let place = Place::of(&connect);
    let mut conn = connect.clone().connect().await.map_err(|error| place.refused(error))?;
    if !place.is_up_to_date(&mut conn).await? {
        place.migrate(&mut conn).await?;
    }
    if !fault::is_on(Guard::Dedupe) {
        // It would refuse what the guard lets through.
        sqlx::query("DROP INDEX IF EXISTS events_outside").execute(&mut conn).await?;
    }
    let claims = ClaimOrder { virtual_time: tx_queue::virtual_time(&mut conn).await?, ..ClaimOrder::default() };
    // The operator may have changed what holds at them.
    sqlx::query("UPDATE gates SET opens_at = 0").execute(&mut conn).await?;
    conn.close().await?;
    let pool = |connections: u32| {
        PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(Duration::from_secs(600))
            .max_lifetime(Duration::from_secs(3_600))
    };
    // A transaction that begins finds out by itself whether its connection is good.
    let writers = pool(options.writers).test_before_acquire(false).connect_lazy_with(settings(connect.clone(), WRITE_TIMEOUT_MS));
    let readers = pool(options.readers).connect_lazy_with(settings(connect.clone(), READ_TIMEOUT_MS).options([("default_transaction_read_only", "on")]));
    // Whatever stands between may refuse the settings; better now than at the first batch.
    writers.acquire().await.map_err(|error| place.refused(error))?;
    let order = Arc::new(Mutex::new(Order::new(claims)));
    Ok(PostgresStore { writers: Writers::new(writers, options.patience), readers, connect, order, time: options.time })
}

/// What every connection of the store is told.
///
/// All its statements go by index, in the order in which they name their tables, and sort no more than they hold. PostgreSQL would do so by
/// itself once it has counted the rows of a table; before, right after a large split say, it takes tables for small and reads all of them.
pub(super) fn settings(connect: PgConnectOptions, statement_timeout_ms: u32) -> PgConnectOptions {
    connect
        .options([("statement_timeout", statement_timeout_ms), ("lock_timeout", LOCK_TIMEOUT_MS), ("idle_in_transaction_session_timeout", IDLE_TIMEOUT_MS)])
        .options([
            ("default_transaction_isolation", "read committed"),
            ("synchronous_commit", "on"),
            ("plan_cache_mode", "force_generic_plan"),
            ("join_collapse_limit", "1"),
            ("from_collapse_limit", "1"),
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("jit", "off"),
        ])
}

/// A database, as people are told of it: without a password.
pub(super) struct Place {
    pub(super) shown: String,
    user: String,
    database: String,
}

impl Place {
    pub(super) fn of(connect: &PgConnectOptions) -> Self {
        let user = connect.get_username().to_owned();
        // What PostgreSQL takes where none is named.
        let database = connect.get_database().unwrap_or(&user).to_owned();
        let host = connect.get_socket().map_or_else(|| format!("{}:{}", connect.get_host(), connect.get_port()), |folder| folder.display().to_string());
        Self { shown: format!("the PostgreSQL database {database} at {host}"), user, database }
    }

    /// Why no connection was made.
    pub(super) fn refused(&self, error: sqlx::Error) -> StoreError {
        let Self { shown, user, database } = self;
        let code = match &error {
            sqlx::Error::Database(error) => error.try_downcast_ref::<PgDatabaseError>().map(|error| error.code().to_owned()),
            _ => None,
        };
        match code.as_deref() {
            Some("3D000") => StoreError::Unusable(format!("there is no {shown}: make it with `createdb {database}`")),
            Some("28000" | "28P01") => StoreError::Unusable(format!("{shown} does not let {user} in: {error}")),
            Some("42501") => StoreError::Unusable(format!("{user} may not use {shown}: {error}")),
            // It starts, it stops, or it is full.
            Some(_) | None => StoreError::Unreachable(format!("{shown} cannot be reached: {error}")),
        }
    }

    /// Looks at a database without changing it, and says whether its schema is this tower's.
    pub(super) async fn is_up_to_date(&self, conn: &mut PgConnection) -> Result<bool, StoreError> {
        let Self { shown, user, .. } = self;
        let row = sqlx::query(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding'), \
             pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', current_schema()::text, \
             coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), to_regclass('_sqlx_migrations') IS NOT NULL, \
             (SELECT count(*) FROM pg_catalog.pg_class AS c WHERE c.relnamespace = to_regnamespace(current_schema()) AND c.relkind IN ('r', 'p'))",
        )
        .fetch_one(&mut *conn)
        .await?;
        let (version, version_text, encoding): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        if version < VERSION_MIN {
            return Err(StoreError::Unusable(format!("{shown} is of PostgreSQL {version_text}; the tower needs {} or newer", VERSION_MIN / 10_000)));
        }
        if encoding != "UTF8" {
            return Err(StoreError::Unusable(format!(
                "{shown} has the encoding {encoding}; the tower needs UTF8 (`createdb --encoding=UTF8 --template=template0`)"
            )));
        }
        if row.get(3) {
            return Err(StoreError::Unusable(format!("{shown} is a standby or read only, and the tower has to write")));
        }
        let (schema, may_create, begun, tables): (Option<String>, bool, bool, i64) = (row.get(4), row.get(5), row.get(6), row.get(7));
        let Some(schema) = schema else {
            return Err(StoreError::Unusable(format!("{user} has no schema in {shown}: none of its search_path exists, or may be used")));
        };
        if !begun {
            if tables > 0 {
                return Err(StoreError::Unusable(format!("{shown} is another program's: its schema {schema} has tables that are not a tower's")));
            }
            if !may_create {
                return Err(StoreError::Unusable(format!(
                    "{user} may not make tables in {shown}: `GRANT CREATE ON SCHEMA {schema} TO {user}`, or name a database of which {user} is the owner"
                )));
            }
            return Ok(false);
        }
        self.is_allowed(conn).await?;
        let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version").fetch_all(conn).await?;
        let known: Vec<(i64, &[u8])> = MIGRATIONS.iter().map(|migration| (migration.version, &*migration.checksum)).collect();
        // A tower that died while it made the schema leaves the beginning of it.
        let same = applied.iter().zip(&known).take_while(|((version, checksum), known)| (*version, checksum.as_slice()) == **known).count();
        if same == 0 && !applied.is_empty() {
            return Err(StoreError::Unusable(format!("{shown} is another program's, or was made by an unreleased version of the tower")));
        }
        match applied.get(same) {
            Some(_) if same == known.len() => Err(self.newer()),
            Some((version, _)) => {
                Err(StoreError::Unusable(format!("step {version} of the schema of {shown} is not this tower's: it was made by an unreleased version")))
            }
            None if same == known.len() => Ok(true),
            None if may_create => Ok(false),
            None => Err(StoreError::Unusable(format!(
                "the schema of {shown} is older than this tower's, and {user} may not change it: run the tower once as the owner of its tables"
            ))),
        }
    }

    fn newer(&self) -> StoreError {
        StoreError::OtherSchema(format!("{} was written by a newer version of the tower; run that one, or restore a copy from before", self.shown))
    }

    /// Brings the schema up to date, while other hosts wait.
    async fn migrate(&self, conn: &mut PgConnection) -> Result<(), StoreError> {
        if fault::is_armed(Point::MigrationApplied) {
            for migration in MIGRATIONS.iter() {
                MIGRATIONS.run_direct(Some(migration.version), conn, false).await?;
                fault::point(Point::MigrationApplied).await?;
            }
        }
        let mut runs = Runs::default();
        loop {
            match MIGRATIONS.run_direct(None, &mut *conn, false).await {
                Err(MigrateError::VersionMissing(_)) => return Err(self.newer()),
                // Hosts of the version before go on meanwhile, and a step of the schema may get into their way, or they into its.
                Err(error) => {
                    let error = StoreError::Migrate(error);
                    if !runs.once_more(&error).await {
                        return Err(error);
                    }
                }
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Whether this user may read and write the tables, whoever made them.
    async fn is_allowed(&self, conn: &mut PgConnection) -> Result<(), StoreError> {
        let denied: Option<String> = sqlx::query_scalar(
            "SELECT min(c.relname::text) FROM pg_catalog.pg_class AS c WHERE c.relnamespace = to_regnamespace(current_schema()) AND c.relkind = 'r' \
             AND NOT (has_table_privilege(c.oid, 'SELECT') AND (c.relname = '_sqlx_migrations' OR (has_table_privilege(c.oid, 'INSERT') \
             AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))))",
        )
        .fetch_one(conn)
        .await?;
        match denied {
            Some(table) => Err(StoreError::Unusable(format!(
                "{} may not read and write the table {table} of {}: `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA … TO {}`",
                self.user, self.shown, self.user
            ))),
            None => Ok(()),
        }
    }
}
