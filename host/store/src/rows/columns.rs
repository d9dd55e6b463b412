//! Reading a row's columns.

use tower_domain::clock::Timestamp;
use tower_domain::code_ref::{Digest, Lane};
use tower_domain::id::{ControlEventId, SessionId, TaskId, TraceId};
use tower_domain::json::Json;
use tower_domain::limit::Gate;
use tower_domain::name::{Key, Name};
use tower_domain::task::{Output, TaskError};

use super::words::Word;
use crate::StoreError;

/// An id of 16 bytes.
pub(crate) trait Id: Copy {
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
ids!(TaskId, TraceId, ControlEventId, SessionId);

/// A row of a back end. A value is found by its column's number; NULL is `None`.
pub(crate) trait Cells {
    /// Why a value is not what was asked for.
    type Error: std::fmt::Display;
    fn int(&self, column: usize) -> Result<Option<i64>, Self::Error>;
    fn text(&self, column: usize) -> Result<Option<&str>, Self::Error>;
    /// Also of an id.
    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, Self::Error>;
}

/// Reads a row's columns one after the other, in the order of the statement.
pub(crate) struct Columns<'r, R> {
    row: &'r R,
    next: usize,
    table: &'static str,
}

impl<'r, R: Cells> Columns<'r, R> {
    /// From the first column. `table` is named when a value cannot be read.
    pub(crate) fn of(row: &'r R, table: &'static str) -> Self {
        Self { row, next: 0, table }
    }

    /// From a later column.
    pub(crate) fn after(row: &'r R, columns: usize, table: &'static str) -> Self {
        Self { row, next: columns, table }
    }

    /// What to answer when a value cannot be read.
    pub(crate) fn bad(&self, what: impl std::fmt::Display) -> StoreError {
        StoreError::inconsistent(self.table, format!("{what} in column {}", self.next))
    }

    fn get<T>(&mut self, read: impl FnOnce(&'r R, usize) -> Result<Option<T>, R::Error>) -> Result<Option<T>, StoreError> {
        let value = read(self.row, self.next).map_err(|error| self.bad(error))?;
        self.next += 1;
        Ok(value)
    }

    fn there<T>(&self, value: Option<T>) -> Result<T, StoreError> {
        value.ok_or_else(|| self.bad("NULL"))
    }

    fn opt_bytes(&mut self) -> Result<Option<&'r [u8]>, StoreError> {
        self.get(R::bytes)
    }

    fn opt_str(&mut self) -> Result<Option<&'r str>, StoreError> {
        self.get(R::text)
    }

    fn str(&mut self) -> Result<&'r str, StoreError> {
        let text = self.opt_str()?;
        self.there(text)
    }

    pub(crate) fn opt_int(&mut self) -> Result<Option<i64>, StoreError> {
        self.get(R::int)
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        let value = self.opt_int()?;
        self.there(value)
    }

    /// A number that is not negative and fits the type.
    pub(crate) fn uint<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let value = self.int()?;
        T::try_from(value).map_err(|_| self.bad(value))
    }

    pub(crate) fn opt_uint<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, StoreError> {
        let value = self.opt_int()?;
        value.map(|value| T::try_from(value).map_err(|_| self.bad(value))).transpose()
    }

    pub(crate) fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn word<W: Word>(&mut self) -> Result<W, StoreError> {
        let code = self.int()?;
        W::from_code(code).ok_or_else(|| self.bad(code))
    }

    pub(crate) fn opt_word<W: Word>(&mut self) -> Result<Option<W>, StoreError> {
        let code = self.opt_int()?;
        code.map(|code| W::from_code(code).ok_or_else(|| self.bad(code))).transpose()
    }

    pub(crate) fn at(&mut self) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_micros(self.int()?))
    }

    pub(crate) fn opt_at(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.opt_int()?.map(Timestamp::from_micros))
    }

    pub(crate) fn id<I: Id>(&mut self) -> Result<I, StoreError> {
        let id = self.opt_id()?;
        self.there(id)
    }

    pub(crate) fn opt_id<I: Id>(&mut self) -> Result<Option<I>, StoreError> {
        let bytes = self.opt_bytes()?;
        bytes.map(|bytes| bytes.try_into().map(I::from).map_err(|_| self.bad("an id that is not 16 bytes"))).transpose()
    }

    pub(crate) fn hash(&mut self) -> Result<[u8; 32], StoreError> {
        let bytes = self.opt_bytes()?;
        self.there(bytes)?.try_into().map_err(|_| self.bad("a hash that is not 32 bytes"))
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, StoreError> {
        self.hash().map(Digest)
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.str().map(str::to_owned)
    }

    pub(crate) fn opt_text(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.opt_str()?.map(str::to_owned))
    }

    pub(crate) fn name(&mut self) -> Result<Name, StoreError> {
        let text = self.str()?;
        Name::new(text).map_err(|error| self.bad(error))
    }

    pub(crate) fn opt_name(&mut self) -> Result<Option<Name>, StoreError> {
        let text = self.opt_str()?;
        text.map(|text| Name::new(text).map_err(|error| self.bad(error))).transpose()
    }

    pub(crate) fn key(&mut self) -> Result<Key, StoreError> {
        let text = self.str()?;
        Key::new(text).map_err(|error| self.bad(error))
    }

    /// A limit's name.
    pub(crate) fn gate(&mut self) -> Result<Gate, StoreError> {
        let gate = self.opt_gate()?;
        self.there(gate)
    }

    pub(crate) fn opt_gate(&mut self) -> Result<Option<Gate>, StoreError> {
        let text = self.opt_str()?;
        text.map(|text| text.parse().map_err(|error| self.bad(error))).transpose()
    }

    /// A lane; NULL is the one that almost all tasks are in.
    pub(crate) fn lane(&mut self) -> Result<Lane, StoreError> {
        let text = self.opt_str()?;
        text.map_or_else(|| Ok(Lane::Process), |text| text.parse().map_err(|error| self.bad(error)))
    }

    pub(crate) fn json(&mut self) -> Result<Json, StoreError> {
        let text = self.str()?;
        Ok(Json::trusted(text))
    }

    pub(crate) fn opt_json(&mut self) -> Result<Option<Json>, StoreError> {
        let text = self.opt_str()?;
        Ok(text.map(Json::trusted))
    }

    /// A JSON text as a type; NULL: its default.
    pub(crate) fn read<T: Default + serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text = self.opt_str()?;
        text.map_or_else(|| Ok(T::default()), |text| serde_json::from_str(text).map_err(|error| self.bad(error)))
    }

    /// Two columns: inline, and by reference.
    pub(crate) fn output(&mut self) -> Result<Option<Output>, StoreError> {
        let inline = self.opt_json()?;
        let by_ref = self.opt_text()?;
        Ok(inline.map(Output::Inline).or(by_ref.map(Output::Ref)))
    }

    /// Two columns: code and message.
    pub(crate) fn error(&mut self) -> Result<Option<TaskError>, StoreError> {
        let code = self.opt_text()?;
        let message = self.opt_text()?;
        Ok(code.zip(message).map(|(code, message)| TaskError { code, message }))
    }
}
