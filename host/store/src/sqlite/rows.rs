//! SQLite's parameters and rows.

use std::borrow::Cow;

use rusqlite::types::ValueRef;
use rusqlite::{Statement, ToSql};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Row, Sqlite, Type};

pub(super) use crate::rows::{Bind, Cells, Columns, Id};

/// Ids as one parameter, see [`hex_array`].
pub(super) fn id_array<I: Id>(ids: impl IntoIterator<Item = I>) -> String {
    hex_array(ids.into_iter().map(Id::bytes))
}

/// Bytes as one parameter: a JSON array of hexadecimal texts, for `json_each` and `unhex`.
pub(super) fn hex_array<const N: usize>(list: impl IntoIterator<Item = [u8; N]>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let list = list.into_iter();
    let mut text = String::with_capacity(2 + list.size_hint().0 * (2 * N + 3));
    text.push('[');
    for bytes in list {
        text.push_str(if text.len() > 1 { ",\"" } else { "\"" });
        for byte in bytes {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text.push('"');
    }
    text.push(']');
    text
}

/// Numbers as one parameter: a JSON array.
pub(super) fn number_array(numbers: impl IntoIterator<Item = i64>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

/// Parameters of a statement, in order.
#[derive(Default)]
pub(super) struct Params {
    list: SqliteArguments,
}

impl Params {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// What sqlx takes.
    pub(super) fn into_list(self) -> SqliteArguments {
        self.list
    }

    fn push<'t, T: sqlx::Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        self.list.add(value).expect("numbers, text and bytes always encode");
        self
    }
}

impl Bind for Params {
    fn put_int(&mut self, value: Option<i64>) -> &mut Self {
        self.push(value)
    }

    fn put_id(&mut self, value: Option<[u8; 16]>) -> &mut Self {
        self.push(value.map(|id| id.to_vec()))
    }

    fn put_text(&mut self, value: Option<Cow<'_, str>>) -> &mut Self {
        self.push(value.map(Cow::into_owned))
    }

    fn put_bytes(&mut self, value: &[u8]) -> &mut Self {
        self.push(value)
    }
}

/// Binds the parameters of a batch's statement, in order, with no list of them in between. What is not bound is NULL.
pub(super) struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    bound: usize,
    refused: Option<rusqlite::Error>,
}

impl<'s, 'c> Binder<'s, 'c> {
    pub(super) fn of(statement: &'s mut Statement<'c>) -> Self {
        Self { statement, bound: 0, refused: None }
    }

    /// What kept a value from being bound.
    pub(super) fn end(self) -> Result<(), rusqlite::Error> {
        self.refused.map_or(Ok(()), Err)
    }

    /// Ids as one parameter, see [`id_array`].
    pub(super) fn ids<I: Id>(&mut self, ids: &[I]) -> &mut Self {
        self.push(id_array(ids.iter().copied()))
    }

    fn push(&mut self, value: impl ToSql) -> &mut Self {
        self.bound += 1;
        if let Err(error) = self.statement.raw_bind_parameter(self.bound, value) {
            self.refused.get_or_insert(error);
        }
        self
    }
}

impl Bind for Binder<'_, '_> {
    fn put_int(&mut self, value: Option<i64>) -> &mut Self {
        self.push(value)
    }

    fn put_id(&mut self, value: Option<[u8; 16]>) -> &mut Self {
        self.push(value.as_ref().map(<[u8; 16]>::as_slice))
    }

    fn put_text(&mut self, value: Option<Cow<'_, str>>) -> &mut Self {
        self.push(value.as_deref())
    }

    fn put_bytes(&mut self, value: &[u8]) -> &mut Self {
        self.push(value)
    }
}

impl Cells for rusqlite::Row<'_> {
    type Error = rusqlite::Error;

    fn int(&self, column: usize) -> Result<Option<i64>, rusqlite::Error> {
        self.get(column)
    }

    fn text(&self, column: usize) -> Result<Option<&str>, rusqlite::Error> {
        match self.get_ref(column)? {
            ValueRef::Null => Ok(None),
            value => Ok(Some(value.as_str()?)),
        }
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, rusqlite::Error> {
        match self.get_ref(column)? {
            ValueRef::Null => Ok(None),
            value => Ok(Some(value.as_blob()?)),
        }
    }
}

impl Cells for SqliteRow {
    type Error = sqlx::Error;

    fn int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
        self.try_get(column)
    }
}
