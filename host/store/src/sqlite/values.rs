//! Many rows in one statement.
//!
//! A list of `VALUES` is bound faster than a JSON array is taken apart. Lists come in a few fixed lengths, so that each is prepared
//! once; what a list does not fill stays NULL and is left out by the statement.

use std::sync::OnceLock;

use sqlx::SqliteConnection;

use super::rows::Params;
use crate::StoreError;

/// Lengths of lists. With 45 columns the longest stays far below SQLite's 32 766 parameters.
const LENGTHS: [usize; 4] = [1, 8, 32, 128];
const LENGTH_MAX: usize = LENGTHS[LENGTHS.len() - 1];

/// Bytes of text in one statement after which the next one begins.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// A statement over rows, written once for all lengths.
pub(super) struct Rows {
    columns: usize,
    head: &'static str,
    tail: &'static str,
    texts: [OnceLock<&'static str>; LENGTHS.len()],
}

impl Rows {
    /// `head (VALUES (?, …), …) tail`; the list's columns are `column1`, `column2` ….
    pub(super) const fn new(columns: usize, head: &'static str, tail: &'static str) -> Self {
        Self { columns, head, tail, texts: [const { OnceLock::new() }; LENGTHS.len()] }
    }

    /// The text for at least so many rows.
    pub(super) fn sql(&self, rows: usize) -> &'static str {
        let at = LENGTHS.iter().position(|length| *length >= rows).unwrap_or(LENGTHS.len() - 1);
        self.texts[at].get_or_init(|| {
            let row = format!("({})", vec!["?"; self.columns].join(","));
            // One text a statement and length, for as long as the process lives.
            String::leak(format!("{} (VALUES {}) {}", self.head, vec![row; LENGTHS[at]].join(","), self.tail))
        })
    }

    /// Runs the statement over all rows. `first` gives the parameters before the list, `bind` those of a row.
    pub(super) async fn run<T>(&self, conn: &mut SqliteConnection, rows: &[T], first: impl Fn(&mut Params), bind: impl Fn(&mut Params, &T)) -> Result<(), StoreError> {
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            let mut params = Params::new();
            first(&mut params);
            let mut count = 0;
            while count < LENGTH_MAX && params.text_bytes < TEXT_BYTES_MAX {
                let Some(row) = rows.next() else { break };
                bind(&mut params, row);
                count += 1;
            }
            sqlx::query_with(self.sql(count), params.into_list()).execute(&mut *conn).await?;
        }
        Ok(())
    }
}
