//! A PostgreSQL database: whether it can be reached, whether it is this tower's, whether it keeps what it acknowledged, and whether every
//! invariant holds. It is not changed.

use serde::Serialize;
use tower_store::invariants::ALL;
use tower_store::postgres::{self, ServerState};

use super::super::failure::Failure;
use super::super::inspect::size;
use super::Check;
use super::database::{Violated, invariants, not_readable};

/// Connections that one host may have, and that everybody else should be left.
const CONNECTIONS_OF_A_HOST: i64 = 15;
const CONNECTIONS_OF_OTHERS: i64 = 10;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct PostgresDatabase {
    /// Without a password.
    database: String,
    server_version: String,
    schema_version: i64,
    bytes: u64,
    synchronous_commit: String,
    fsync: bool,
    full_page_writes: bool,
    max_connections: i64,
    /// Invariants that were asked about.
    invariants: usize,
    /// Those that do not hold.
    violations: Vec<Violated>,
}

/// Looks at a database.
pub(super) async fn look(url: &str) -> Result<(Vec<Check>, PostgresDatabase), Failure> {
    let look = postgres::look(url).await.map_err(|error| not_readable(&error))?;
    let server = look.server;
    let shown = format!("{}: PostgreSQL {}, schema {}, {}", server.shown, server.version, server.schema, size(server.bytes));
    let mut checks = vec![Check::ok("database", shown), durability(&server), connections(&server)];
    let violations = invariants(&look.store, &mut checks).await.map_err(|error| not_readable(&error))?;
    look.store.close().await;
    let ServerState { shown, version, schema, bytes, synchronous_commit, fsync, full_page_writes, connections_max } = server;
    let database = PostgresDatabase {
        database: shown,
        server_version: version,
        schema_version: schema,
        bytes,
        synchronous_commit,
        fsync,
        full_page_writes,
        max_connections: connections_max,
        invariants: ALL.len(),
        violations,
    };
    Ok((checks, database))
}

/// Whether what was acknowledged is there after a power cut.
fn durability(server: &ServerState) -> Check {
    let say = |on: bool| if on { "on" } else { "off" };
    let message = format!(
        "fsync {}, full_page_writes {}, synchronous_commit {} (a tower sets it on for itself)",
        say(server.fsync),
        say(server.full_page_writes),
        server.synchronous_commit
    );
    if server.fsync && server.full_page_writes {
        Check::ok("durability", message)
    } else {
        Check::failed("durability", message, "set fsync and full_page_writes to on: without them a power cut loses what was acknowledged")
    }
}

fn connections(server: &ServerState) -> Check {
    let hosts = (server.connections_max - CONNECTIONS_OF_OTHERS) / CONNECTIONS_OF_A_HOST;
    let message = format!("max_connections is {}, enough for {hosts} hosts", server.connections_max);
    if hosts >= 1 {
        Check::ok("connections", message)
    } else {
        Check::warning("connections", message, format!("raise it to {CONNECTIONS_OF_A_HOST} for each host and {CONNECTIONS_OF_OTHERS} more"))
    }
}
