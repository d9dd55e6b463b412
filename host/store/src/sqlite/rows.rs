//! Values on their way to columns and back.

use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, Decode, Row, Sqlite, Type};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Digest;
use tower_domain::id::{ControlEventId, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::name::{Key, Name};
use tower_domain::task::{Output, TaskError};

use super::words::Word;
use crate::StoreError;

/// An id of 16 bytes.
pub(super) trait Id: Copy {
    /// The bytes.
    fn bytes(self) -> [u8; 16];
    /// From the bytes.
    fn from(bytes: [u8; 16]) -> Self;
}

macro_rules! ids {
    ($($name:ident),+) => { $(
        impl Id for $name {
            fn bytes(self) -> [u8; 16] {
                self.to_bytes()
            }
            fn from(bytes: [u8; 16]) -> Self {
                Self::from_bytes(bytes)
            }
        }
    )+ };
}
ids!(TaskId, TraceId, ControlEventId);

/// Ids as one parameter: a JSON array of hexadecimal texts, for `json_each` and `unhex`.
pub(super) fn id_array<I: Id>(ids: impl IntoIterator<Item = I>) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let ids = ids.into_iter();
    let mut text = String::with_capacity(2 + ids.size_hint().0 * 35);
    text.push('[');
    for id in ids {
        text.push_str(if text.len() > 1 { ",\"" } else { "\"" });
        for byte in id.bytes() {
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
    /// Bytes of text so far.
    pub(super) text_bytes: usize,
}

impl Params {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// So many NULLs.
    pub(super) fn pad(&mut self, count: usize) {
        for _ in 0..count {
            self.push(None::<i64>);
        }
    }

    /// What sqlx takes.
    pub(super) fn into_list(self) -> SqliteArguments {
        self.list
    }

    fn push<'t, T: sqlx::Encode<'t, Sqlite> + Type<Sqlite>>(&mut self, value: T) -> &mut Self {
        self.list.add(value).expect("numbers, text and bytes always encode");
        self
    }

    pub(super) fn int(&mut self, value: impl Into<i64>) -> &mut Self {
        self.push(value.into())
    }

    pub(super) fn opt_int(&mut self, value: Option<impl Into<i64>>) -> &mut Self {
        self.push(value.map(Into::into))
    }

    /// Counters that cannot reach 2⁶³; cut there rather than wrapped.
    pub(super) fn uint(&mut self, value: u64) -> &mut Self {
        self.push(i64::try_from(value).unwrap_or(i64::MAX))
    }

    pub(super) fn word(&mut self, value: impl Word) -> &mut Self {
        self.push(value.code())
    }

    pub(super) fn opt_word(&mut self, value: Option<impl Word>) -> &mut Self {
        self.push(value.map(Word::code))
    }

    pub(super) fn at(&mut self, value: Timestamp) -> &mut Self {
        self.push(value.as_micros())
    }

    pub(super) fn opt_at(&mut self, value: Option<Timestamp>) -> &mut Self {
        self.push(value.map(Timestamp::as_micros))
    }

    pub(super) fn id(&mut self, value: impl Id) -> &mut Self {
        self.push(value.bytes().to_vec())
    }

    /// Ids as one parameter, see [`id_array`].
    pub(super) fn ids<I: Id>(&mut self, ids: &[I]) -> &mut Self {
        self.push(id_array(ids.iter().copied()))
    }

    pub(super) fn opt_id(&mut self, value: Option<impl Id>) -> &mut Self {
        self.push(value.map(|id| id.bytes().to_vec()))
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.push(value)
    }

    pub(super) fn text(&mut self, value: impl Into<String>) -> &mut Self {
        let value = value.into();
        self.text_bytes += value.len();
        self.push(value)
    }

    pub(super) fn opt_text(&mut self, value: Option<impl Into<String>>) -> &mut Self {
        let value = value.map(Into::into);
        self.text_bytes += value.as_ref().map_or(0, String::len);
        self.push(value)
    }

    /// Two columns: inline, and by reference.
    pub(super) fn output(&mut self, value: Option<&Output>) -> &mut Self {
        match value {
            Some(Output::Inline(json)) => self.text(json.as_str()).opt_text(None::<String>),
            Some(Output::Ref(url)) => self.opt_text(None::<String>).text(url.as_str()),
            None => self.opt_text(None::<String>).opt_text(None::<String>),
        }
    }

    /// Two columns: code and message.
    pub(super) fn error(&mut self, value: Option<&TaskError>) -> &mut Self {
        self.opt_text(value.map(|error| error.code.as_str())).opt_text(value.map(|error| error.message.as_str()))
    }
}

/// Reads a row's columns one after the other, in the order of the statement.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    next: usize,
    table: &'static str,
}

impl<'r> Columns<'r> {
    /// From the first column. `table` is named when a value cannot be read.
    pub(super) fn of(row: &'r SqliteRow, table: &'static str) -> Self {
        Self { row, next: 0, table }
    }

    /// What to answer when a value cannot be read.
    pub(super) fn bad(&self, what: impl std::fmt::Display) -> StoreError {
        StoreError::inconsistent(self.table, format!("{what} in column {}", self.next))
    }

    fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(&mut self) -> Result<T, StoreError> {
        let value = self.row.try_get(self.next).map_err(|error| self.bad(error))?;
        self.next += 1;
        Ok(value)
    }

    pub(super) fn int(&mut self) -> Result<i64, StoreError> {
        self.get()
    }

    /// A number that is not negative and fits the type.
    pub(super) fn uint<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let value: i64 = self.get()?;
        T::try_from(value).map_err(|_| self.bad(value))
    }

    pub(super) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    pub(super) fn word<W: Word>(&mut self) -> Result<W, StoreError> {
        let code = self.int()?;
        W::from_code(code).ok_or_else(|| self.bad(code))
    }

    pub(super) fn opt_word<W: Word>(&mut self) -> Result<Option<W>, StoreError> {
        let code: Option<i64> = self.get()?;
        code.map(|code| W::from_code(code).ok_or_else(|| self.bad(code))).transpose()
    }

    pub(super) fn at(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_micros(self.get()?))
    }

    pub(super) fn opt_at(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp::from_micros))
    }

    pub(super) fn id<I: Id>(&mut self) -> Result<I, StoreError> {
        let bytes: &[u8] = self.get()?;
        bytes.try_into().map(I::from).map_err(|_| self.bad("an id that is not 16 bytes"))
    }

    pub(super) fn opt_id<I: Id>(&mut self) -> Result<Option<I>, StoreError> {
        let bytes: Option<&[u8]> = self.get()?;
        bytes.map(|bytes| bytes.try_into().map(I::from).map_err(|_| self.bad("an id that is not 16 bytes"))).transpose()
    }

    pub(super) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        let bytes: &[u8] = self.get()?;
        bytes.try_into().map_err(|_| self.bad("a hash that is not 32 bytes"))
    }

    pub(super) fn digest(&mut self) -> Result<Digest, StoreError> {
        self.hash().map(Digest)
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.get()
    }

    pub(super) fn opt_text(&mut self) -> Result<Option<String>, StoreError> {
        self.get()
    }

    pub(super) fn name(&mut self) -> Result<Name, StoreError> {
        let text: &str = self.get()?;
        Name::new(text).map_err(|error| self.bad(error))
    }

    pub(super) fn opt_name(&mut self) -> Result<Option<Name>, StoreError> {
        let text: Option<&str> = self.get()?;
        text.map(|text| Name::new(text).map_err(|error| self.bad(error))).transpose()
    }

    pub(super) fn key(&mut self) -> Result<Key, StoreError> {
        let text: &str = self.get()?;
        Key::new(text).map_err(|error| self.bad(error))
    }

    pub(super) fn json(&mut self) -> Result<Json, StoreError> {
        let text: &str = self.get()?;
        Ok(Json::trusted(text))
    }

    pub(super) fn opt_json(&mut self) -> Result<Option<Json>, StoreError> {
        let text: Option<&str> = self.get()?;
        Ok(text.map(Json::trusted))
    }

    /// A JSON text as a type; NULL: its default.
    pub(super) fn read<T: Default + serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text: Option<&str> = self.get()?;
        text.map_or_else(|| Ok(T::default()), |text| serde_json::from_str(text).map_err(|error| self.bad(error)))
    }

    /// Two columns: inline, and by reference.
    pub(super) fn output(&mut self) -> Result<Option<Output>, StoreError> {
        let inline = self.opt_json()?;
        let by_ref = self.opt_text()?;
        Ok(inline.map(Output::Inline).or(by_ref.map(Output::Ref)))
    }

    /// Two columns: code and message.
    pub(super) fn error(&mut self) -> Result<Option<TaskError>, StoreError> {
        let code = self.opt_text()?;
        let message = self.opt_text()?;
        Ok(code.zip(message).map(|(code, message)| TaskError { code, message }))
    }
}
