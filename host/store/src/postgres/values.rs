//! Many rows in one statement: an array a column, put together by `unnest`. Statements that are not large go to the database together.

use std::collections::{HashMap, HashSet};
use std::sync::{LazyLock, OnceLock};

use parking_lot::Mutex;

use super::rows::{Array, Bind, Params, Table};
use super::tx::PgTx;
use crate::StoreError;

/// Rows in one statement at the most.
const ROWS_MAX: usize = 5_000;

/// Bytes in one statement after which the next one begins.
const BYTES_MAX: usize = 16 << 20;

/// Rows, and bytes of them, of a statement that others may be sent with. What is larger takes its time for its rows and not for the way.
const FEW: usize = 1_000;
const FEW_BYTES: usize = 1 << 20;

/// A statement over rows.
pub(super) struct Rows {
    columns: &'static str,
    scalars: usize,
    text: &'static str,
    made: OnceLock<&'static str>,
}

/// Rows on their way, with the statement that they are for.
pub(super) struct Write {
    statement: &'static Rows,
    scalars: Vec<i64>,
    columns: Vec<Array>,
}

impl Write {
    /// The table that it writes to.
    pub(super) fn table(&self) -> &'static str {
        self.statement.table()
    }

    /// Whether both are about the same row, as far as the first column tells, so that they may not be sent as one.
    fn meets(&self, other: &Self) -> bool {
        let (Some(ours), Some(theirs)) = (self.columns.first(), other.columns.first()) else { return false };
        if self.table() != other.table() {
            return false;
        }
        let ours: HashSet<&[u8]> = ours.elements().collect();
        theirs.elements().any(|element| ours.contains(element))
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(Array::bytes).sum()
    }
}

impl Rows {
    /// `columns` are names, each with its type; without one it is `bigint`. In `text`, `{rows}` is what they stand in, `v` with these
    /// columns, `{columns}` their names, and `{first}` the first of them as an array. It may have one number of its own, `{number}`, and then
    /// `scalars` is 1.
    pub(super) const fn new(columns: &'static str, scalars: usize, text: &'static str) -> Self {
        Self { columns, scalars, text, made: OnceLock::new() }
    }

    /// Writes all rows before anything else is read or made durable.
    pub(super) async fn write<T>(&'static self, tx: &mut PgTx, rows: &[T], scalars: &[i64], bind: impl Fn(&mut Table, &T)) -> Result<(), StoreError> {
        let mut rows = rows;
        while !rows.is_empty() {
            let (write, count) = self.of(rows, scalars, &bind);
            rows = &rows[count..];
            let is_small = count <= FEW && write.bytes() <= FEW_BYTES;
            if !is_small || tx.waiting.iter().any(|waiting| waiting.meets(&write)) {
                tx.write().await?;
            }
            tx.waiting.push(write);
            if !is_small {
                tx.write().await?;
            }
        }
        Ok(())
    }

    /// Writes all rows, and answers how many were written.
    pub(super) async fn written<T>(&'static self, tx: &mut PgTx, rows: &[T], scalars: &[i64], bind: impl Fn(&mut Table, &T)) -> Result<u64, StoreError> {
        let mut written = 0;
        let mut rows = rows;
        while !rows.is_empty() {
            let (write, count) = self.of(rows, scalars, &bind);
            rows = &rows[count..];
            tx.write().await?;
            tx.waiting.push(write);
            written += tx.write().await?;
        }
        Ok(written)
    }

    /// With columns that stand together already.
    pub(super) fn with(&'static self, columns: Vec<Array>) -> Write {
        Write { statement: self, scalars: Vec::new(), columns }
    }

    /// As many rows as go into one statement.
    pub(super) fn of<T>(&'static self, rows: &[T], scalars: &[i64], bind: impl Fn(&mut Table, &T)) -> (Write, usize) {
        debug_assert_eq!(scalars.len(), self.scalars);
        let mut table = Table::new(self.columns.split(',').count());
        let mut count = 0;
        for row in rows.iter().take(ROWS_MAX) {
            bind(&mut table, row);
            debug_assert!(table.is_even(), "a row has as many values as there are columns");
            count += 1;
            if count % 64 == 0 && table.columns.iter().map(Array::bytes).sum::<usize>() > BYTES_MAX {
                break;
            }
        }
        (Write { statement: self, scalars: scalars.to_vec(), columns: table.columns }, count)
    }

    /// Its text.
    pub(super) fn sql(&self) -> &'static str {
        // One text a statement, for as long as the process lives.
        self.made.get_or_init(|| String::leak(self.text_after(0)))
    }

    /// The same behind so many parameters of others.
    fn text_after(&self, others: usize) -> String {
        let columns: Vec<(&str, &str)> = self.columns.split(',').map(|column| column.trim().split_once(' ').unwrap_or((column.trim(), "bigint"))).collect();
        let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let arrays: Vec<String> = columns.iter().zip(others + self.scalars + 1..).map(|((_, kind), number)| format!("${number}::{kind}[]")).collect();
        let rows = format!("unnest({}) AS v ({names})", arrays.join(", "));
        let number = format!("${}", others + 1);
        self.text.replace("{rows}", &rows).replace("{columns}", &names).replace("{first}", &arrays[0]).replace("{number}", &number)
    }

    fn parameters(&self) -> usize {
        self.scalars + self.columns.split(',').count()
    }

    /// The table that it writes to.
    pub(super) fn table(&self) -> &'static str {
        let after = ["INSERT INTO ", "DELETE FROM ", "UPDATE "].iter().find_map(|verb| self.text.strip_prefix(verb)).unwrap_or(self.text);
        after.split(' ').next().unwrap_or(after)
    }
}

/// The text of statements that are sent as one. Each must write rows of its own, as none sees what the others do; the last may read.
pub(super) fn together(statements: &[&'static Rows]) -> &'static str {
    /// By the places of the statements. There are as many as there are shapes of small batches.
    static KNOWN: LazyLock<Mutex<HashMap<Vec<usize>, &'static str>>> = LazyLock::new(Mutex::default);
    let places = statements.iter().map(|statement| std::ptr::from_ref(*statement).addr()).collect();
    KNOWN.lock().entry(places).or_insert_with(|| {
        let mut text = String::new();
        let mut parameters = 0;
        for (number, statement) in statements.iter().enumerate() {
            let one = statement.text_after(parameters);
            parameters += statement.parameters();
            text += &match number {
                _ if number + 1 == statements.len() => format!(" {one}"),
                0 => format!("WITH w0 AS ({one})"),
                _ => format!(", w{number} AS ({one})"),
            };
        }
        String::leak(text)
    })
}

/// One statement that does all of these, and its parameters.
pub(super) fn as_one(writes: Vec<Write>) -> (&'static str, Params) {
    let statements: Vec<&'static Rows> = writes.iter().map(|write| write.statement).collect();
    let text = match statements.as_slice() {
        [alone] => alone.sql(),
        several => together(several),
    };
    let mut params = Params::new();
    for write in writes {
        for number in write.scalars {
            params.put_int(Some(number));
        }
        for column in write.columns {
            params.array(column);
        }
    }
    (text, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    static ONE: Rows = Rows::new("a uuid, b", 0, "INSERT INTO ones ({columns}) SELECT * FROM {rows}");
    static TWO: Rows = Rows::new("a uuid, c text", 1, "UPDATE twos AS t SET c = v.c, at = {number} FROM {rows} WHERE t.a = v.a");
    static THREE: Rows = Rows::new("a uuid", 0, "DELETE FROM threes WHERE a = ANY({first})");

    #[test]
    fn writes_of_one_row_are_not_sent_as_one() {
        let of = |rows: &'static Rows, ids: &[Option<u8>]| {
            let bind = |table: &mut Table, id: &Option<u8>| {
                table.put_id(id.map(|id| [id; 16]));
                if rows.columns.contains(',') {
                    table.put_int(Some(1));
                }
            };
            rows.of(ids, &[], bind).0
        };
        static ONES_GO: Rows = Rows::new("a uuid", 0, "DELETE FROM ones WHERE a = ANY({first})");
        let made = of(&ONE, &[Some(1), None, Some(2)]);
        assert!(made.meets(&of(&ONES_GO, &[Some(3), Some(2)])));
        assert!(!made.meets(&of(&ONES_GO, &[Some(3), None])));
        assert!(!made.meets(&of(&THREE, &[Some(2)])), "another table");
    }

    #[test]
    fn statements_that_are_sent_as_one_have_parameters_of_their_own() {
        assert_eq!((ONE.table(), TWO.table(), THREE.table()), ("ones", "twos", "threes"));
        assert_eq!(TWO.sql(), "UPDATE twos AS t SET c = v.c, at = $1 FROM unnest($2::uuid[], $3::text[]) AS v (a, c) WHERE t.a = v.a");
        assert_eq!(
            together(&[&ONE, &TWO, &THREE]),
            "WITH w0 AS (INSERT INTO ones (a, b) SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS v (a, b)), \
             w1 AS (UPDATE twos AS t SET c = v.c, at = $3 FROM unnest($4::uuid[], $5::text[]) AS v (a, c) WHERE t.a = v.a) \
             DELETE FROM threes WHERE a = ANY($6::uuid[])"
        );
    }
}
