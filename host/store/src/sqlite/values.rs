//! Many rows in one statement.
//!
//! A list of `VALUES` is bound faster than a JSON array is taken apart. Lists come in a few fixed lengths, so that each is prepared
//! once; what a list does not fill is NULL and left out by the statement.

use std::sync::OnceLock;

use super::rows::Params;
use super::tx::SqliteTx;
use crate::StoreError;

/// Lengths of lists. With 45 columns the longest stays far below SQLite's 32 766 parameters.
const LENGTHS: [usize; 4] = [1, 8, 32, 128];
const LENGTH_MAX: usize = LENGTHS[LENGTHS.len() - 1];

/// Lists up to this length wait for the next statement of their transaction, as they are cheaper than the way to SQLite's thread.
const STAGED_MAX: usize = 8;

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

    /// Runs the statement over all rows, or stages it if they are few. `first` gives the parameters before the list, `bind` those of a row.
    pub(super) async fn run<T>(
        &self,
        tx: &mut SqliteTx<'_>,
        rows: &[T],
        first: impl Fn(&mut Params),
        bind: impl Fn(&mut Params, &T),
    ) -> Result<(), StoreError> {
        let mut rows = rows;
        while !rows.is_empty() {
            if rows.len() > STAGED_MAX {
                tx.run().await?;
            }
            let params = &mut tx.params;
            first(params);
            let mut count = 0;
            for row in rows.iter().take(LENGTH_MAX) {
                bind(params, row);
                count += 1;
                if params.text_bytes >= TEXT_BYTES_MAX {
                    break;
                }
            }
            let (sql, length) = self.fitting(count);
            params.pad(self.columns * (length - count));
            rows = &rows[count..];
            tx.stage(sql);
            if length > STAGED_MAX || tx.params.text_bytes >= TEXT_BYTES_MAX {
                tx.run().await?;
            }
        }
        Ok(())
    }

    /// The text for at least so many rows, and how many it has room for.
    fn fitting(&self, rows: usize) -> (&'static str, usize) {
        let at = LENGTHS.iter().position(|length| *length >= rows).unwrap_or(LENGTHS.len() - 1);
        let text = self.texts[at].get_or_init(|| {
            let row = format!("({})", vec!["?"; self.columns].join(","));
            // One text a statement and length, for as long as the process lives.
            String::leak(format!("{} (VALUES {}) {}", self.head, vec![row; LENGTHS[at]].join(","), self.tail))
        });
        (text, LENGTHS[at])
    }

    /// The text for a single row.
    pub(super) fn sql_of_one(&self) -> &'static str {
        self.fitting(1).0
    }

    /// The text for at least so many rows.
    #[cfg(test)]
    pub(super) fn sql(&self, rows: usize) -> &'static str {
        self.fitting(rows).0
    }
}
