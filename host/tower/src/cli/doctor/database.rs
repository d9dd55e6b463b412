//! A database file: whether it can be read, whether SQLite finds it whole, and whether every invariant holds. It is not changed.

use std::path::Path;

use serde::Serialize;
use tower_store::StoreError;
use tower_store::invariants::{ALL, Inspect, ROWS_MAX};
use tower_store::sqlite::{self, Look};

use super::super::codes;
use super::super::failure::Failure;
use super::super::inspect::size;
use super::{Check, Verdict};
use crate::api::problem::causes;

/// Rows of one violated invariant that people are shown; programs get all that were asked for.
const ROWS_SHOWN_MAX: usize = 5;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Database {
    path: String,
    schema_version: i64,
    bytes: u64,
    free_bytes: u64,
    in_use: bool,
    /// Invariants that were asked about.
    invariants: usize,
    /// Those that do not hold.
    violations: Vec<Violated>,
}

/// An invariant that does not hold.
#[derive(Debug, Serialize)]
pub(super) struct Violated {
    id: &'static str,
    says: &'static str,
    /// The first rows that break it.
    rows: Vec<String>,
}

/// Looks at a database.
pub(super) async fn look(file: &Path) -> Result<(Vec<Check>, Database), Failure> {
    if !file.exists() {
        return Err(Failure::own(&codes::NO_SUCH_FILE, format!("there is no database {}", file.display())));
    }
    let look = sqlite::look(file).await.map_err(|error| not_readable(&error))?;
    let state = &look.file;
    let mut checks = vec![Check::ok(
        "database",
        format!(
            "{}: schema {}, {}, of which {} hold nothing{}",
            file.display(),
            state.schema,
            size(state.pages * state.page_bytes),
            size(state.free_pages * state.page_bytes),
            if state.in_use { "; in use" } else { "" }
        ),
    )];
    checks.push(integrity(&look).await.map_err(|error| not_readable(&error))?);
    let violations = invariants(&look.store, &mut checks).await.map_err(|error| not_readable(&error))?;
    if !look.was_still() {
        checks.push(Check::failed("database", "a tower began to write to it meanwhile, so that what was found may be wrong", "run this again"));
    }
    let database = Database {
        path: file.display().to_string(),
        schema_version: state.schema,
        bytes: state.pages * state.page_bytes,
        free_bytes: state.free_pages * state.page_bytes,
        in_use: state.in_use,
        invariants: ALL.len(),
        violations,
    };
    Ok((checks, database))
}

pub(super) fn not_readable(error: &StoreError) -> Failure {
    let code = match error {
        StoreError::OtherSchema(_) => &codes::OTHER_SCHEMA,
        StoreError::InUse(_) => &codes::IN_USE,
        StoreError::Unusable(_) | StoreError::Migrate(_) | StoreError::Inconsistent { .. } => &codes::UNUSABLE,
        StoreError::Database(_) | StoreError::Batch(_) | StoreError::Raced | StoreError::Unreachable(_) | StoreError::Silent(_) | StoreError::Blobs { .. } => {
            &codes::FAILED
        }
    };
    Failure::own(code, causes(error))
}

async fn integrity(look: &Look) -> Result<Check, StoreError> {
    let lines = look.integrity().await?;
    Ok(if lines.is_empty() {
        Check::ok("integrity", "SQLite finds the file whole")
    } else {
        Check::failed("integrity", lines.join("\n"), "restore a copy from before; the disk may be failing")
    })
}

/// Asks about all invariants, and says what was found.
pub(super) async fn invariants(store: &dyn Inspect, checks: &mut Vec<Check>) -> Result<Vec<Violated>, StoreError> {
    let mut violations = Vec::new();
    for invariant in ALL {
        let rows = store.violations(*invariant).await?;
        if !rows.is_empty() {
            violations.push(Violated { id: invariant.id, says: invariant.says, rows });
        }
    }
    if violations.is_empty() {
        checks.push(Check::ok("invariants", format!("all {} hold", ALL.len())));
    }
    checks.extend(violations.iter().map(violated));
    Ok(violations)
}

fn violated(violated: &Violated) -> Check {
    let Violated { id, says, rows } = violated;
    let count = if rows.len() >= ROWS_MAX as usize { format!("{} rows or more", rows.len()) } else { format!("{} rows", rows.len()) };
    let mut lines = vec![format!("does not hold: {says} ({count})")];
    lines.extend(rows.iter().take(ROWS_SHOWN_MAX).cloned());
    if rows.len() > ROWS_SHOWN_MAX {
        lines.push("…; --json shows more".to_owned());
    }
    Check { help: Some("keep a copy of the database, and please report this".to_owned()), ..Check::new(id, Verdict::Failed, lines.join("\n")) }
}
