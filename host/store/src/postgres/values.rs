//! Many rows in one statement: an array a column, put together by `unnest`.

use std::sync::OnceLock;

use super::rows::{Params, Table};
use super::tx::PgTx;
use crate::StoreError;

/// Rows in one statement at the most.
const ROWS_MAX: usize = 5_000;

/// Bytes in one statement after which the next one begins.
const BYTES_MAX: usize = 16 << 20;

/// A statement over rows.
pub(super) struct Rows {
    columns: &'static str,
    scalars: usize,
    text: &'static str,
    made: OnceLock<&'static str>,
}

impl Rows {
    /// `columns` are names, each with its type; without one it is `bigint`. In `text`, `{rows}` is what they stand in, `v` with these
    /// columns, and `{columns}` their names. It may have parameters of its own, `scalars` of them, from $1.
    pub(super) const fn new(columns: &'static str, scalars: usize, text: &'static str) -> Self {
        Self { columns, scalars, text, made: OnceLock::new() }
    }

    /// Runs the statement over all rows, and answers how many were written. `first` gives the parameters of its own, `bind` those of a row.
    pub(super) async fn run<T>(&self, tx: &mut PgTx, rows: &[T], first: impl Fn(&mut Params), bind: impl Fn(&mut Table, &T)) -> Result<u64, StoreError> {
        let mut written = 0;
        let mut rows = rows;
        while !rows.is_empty() {
            let (params, count) = self.params(rows, &first, &bind);
            rows = &rows[count..];
            written += tx.execute(self.sql(), params).await?;
        }
        Ok(written)
    }

    /// Parameters for as many rows as go into one statement.
    pub(super) fn params<T>(&self, rows: &[T], first: impl Fn(&mut Params), bind: impl Fn(&mut Table, &T)) -> (Params, usize) {
        let mut table = Table::new(self.columns.split(',').count());
        let mut count = 0;
        for row in rows.iter().take(ROWS_MAX) {
            bind(&mut table, row);
            debug_assert!(table.is_even(), "a row has as many values as there are columns");
            count += 1;
            if count % 64 == 0 && table.columns.iter().map(super::rows::Array::bytes).sum::<usize>() > BYTES_MAX {
                break;
            }
        }
        let mut params = Params::new();
        first(&mut params);
        for column in table.columns {
            params.array(column);
        }
        (params, count)
    }

    /// Its text.
    pub(super) fn sql(&self) -> &'static str {
        self.made.get_or_init(|| {
            let columns: Vec<(&str, &str)> = self.columns.split(',').map(|column| column.trim().split_once(' ').unwrap_or((column.trim(), "bigint"))).collect();
            let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            let arrays: Vec<String> = columns.iter().zip(self.scalars + 1..).map(|((_, kind), number)| format!("${number}::{kind}[]")).collect();
            let rows = format!("unnest({}) AS v ({names})", arrays.join(", "));
            // One text a statement, for as long as the process lives.
            String::leak(self.text.replace("{rows}", &rows).replace("{columns}", &names))
        })
    }
}
