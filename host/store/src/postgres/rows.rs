//! PostgreSQL's parameters and rows.

use std::borrow::Cow;

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo};
use sqlx::{Arguments, Postgres, Row, Type, ValueRef};
use tower_domain::code_ref::Digest;

pub(super) use crate::rows::{Bind, Cells, Columns, Id};

/// Numbers of types and of arrays of them. They are the same in every PostgreSQL.
mod oid {
    pub(super) const BYTEA: (u32, u32) = (17, 1001);
    pub(super) const BIGINT: (u32, u32) = (20, 1016);
    pub(super) const TEXT: (u32, u32) = (25, 1009);
    pub(super) const UUID: (u32, u32) = (2950, 2951);
}

/// An id as a parameter.
struct Uuid([u8; 16]);

impl Type<Postgres> for Uuid {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(oid::UUID.0))
    }
}

impl Encode<'_, Postgres> for Uuid {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }
}

/// An array as a parameter, written as PostgreSQL reads it: a column of many rows is copied once.
#[derive(Default)]
pub(super) struct Array {
    /// Types of the elements and of the array; those of the first element.
    types: (u32, u32),
    count: u32,
    has_null: bool,
    body: Vec<u8>,
}

impl Array {
    fn push(&mut self, types: (u32, u32), value: Option<&[u8]>) {
        debug_assert!(self.count == 0 || self.types == types, "a column has one type");
        self.types = types;
        self.count += 1;
        match value {
            // PostgreSQL takes no value of more than 1 GiB, and the domain none of more than some MiB.
            Some(bytes) => {
                self.body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                self.body.extend_from_slice(bytes);
            }
            None => {
                self.has_null = true;
                self.body.extend_from_slice(&(-1i32).to_be_bytes());
            }
        }
    }

    /// Of ids.
    pub(super) fn ids<I: Id>(ids: &[I]) -> Self {
        let mut array = Self { types: oid::UUID, ..Self::default() };
        for id in ids {
            array.push(oid::UUID, Some(&id.bytes()));
        }
        array
    }

    /// Of digests.
    pub(super) fn digests(digests: &[Digest]) -> Self {
        let mut array = Self { types: oid::BYTEA, ..Self::default() };
        for digest in digests {
            array.push(oid::BYTEA, Some(&digest.0));
        }
        array
    }

    /// Of texts.
    pub(super) fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let mut array = Self { types: oid::TEXT, ..Self::default() };
        for text in texts {
            array.push(oid::TEXT, Some(without_nul(Cow::Borrowed(text)).as_bytes()));
        }
        array
    }

    /// Of numbers.
    pub(super) fn numbers(numbers: &[i64]) -> Self {
        let mut array = Self { types: oid::BIGINT, ..Self::default() };
        for number in numbers {
            array.push(oid::BIGINT, Some(&number.to_be_bytes()));
        }
        array
    }

    /// Its elements, but for NULLs.
    pub(super) fn elements(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.body.as_slice();
        std::iter::from_fn(move || {
            loop {
                let (length, after) = rest.split_first_chunk()?;
                match usize::try_from(i32::from_be_bytes(*length)) {
                    Ok(length) => {
                        let (element, after) = after.split_at_checked(length)?;
                        rest = after;
                        return Some(element);
                    }
                    Err(_) => rest = after,
                }
            }
        })
    }

    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }
}

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(oid::TEXT.1))
    }
}

impl Encode<'_, Postgres> for Array {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // Dimensions, whether there are NULLs, the elements' type; then the only dimension's length and its lower bound.
        for word in [1, u32::from(self.has_null), self.types.0, self.count, 1] {
            buffer.extend_from_slice(&word.to_be_bytes());
        }
        buffer.extend_from_slice(&self.body);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.types.1)))
    }
}

/// PostgreSQL's texts hold no NUL. The domain lets none into JSON and names; a guest's own words may have one.
fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{FFFD}")) } else { text }
}

/// Parameters of a statement, in order.
#[derive(Default)]
pub(super) struct Params {
    list: PgArguments,
}

impl Params {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// What sqlx takes.
    pub(super) fn into_list(self) -> PgArguments {
        self.list
    }

    fn push<'t, T: Encode<'t, Postgres> + Type<Postgres>>(&mut self, value: T) -> &mut Self {
        self.list.add(value).expect("numbers, text and bytes always encode");
        self
    }

    /// Many values as one.
    pub(super) fn array(&mut self, array: Array) -> &mut Self {
        self.push(array)
    }

    /// Ids as one.
    pub(super) fn ids<I: Id>(&mut self, ids: &[I]) -> &mut Self {
        self.array(Array::ids(ids))
    }

    /// The first bytes of an id, the rest being 0; of more than an id has, those of an id.
    pub(super) fn bound(&mut self, bytes: &[u8]) -> &mut Self {
        let mut id = [0; 16];
        let known = bytes.len().min(id.len());
        id[..known].copy_from_slice(&bytes[..known]);
        self.put_id(Some(id))
    }
}

impl Bind for Params {
    fn put_int(&mut self, value: Option<i64>) -> &mut Self {
        self.push(value)
    }

    fn put_id(&mut self, value: Option<[u8; 16]>) -> &mut Self {
        self.push(value.map(Uuid))
    }

    fn put_text(&mut self, value: Option<Cow<'_, str>>) -> &mut Self {
        self.push(value.map(|text| without_nul(text).into_owned()))
    }

    fn put_bytes(&mut self, value: &[u8]) -> &mut Self {
        self.push(value)
    }
}

/// Rows on their way into one statement, an array a column.
#[derive(Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Array>,
    next: usize,
}

impl Table {
    /// Room for so many columns.
    pub(super) fn new(columns: usize) -> Self {
        Self { columns: std::iter::repeat_with(Array::default).take(columns).collect(), next: 0 }
    }

    fn push(&mut self, types: (u32, u32), value: Option<&[u8]>) -> &mut Self {
        self.columns[self.next].push(types, value);
        self.next = (self.next + 1) % self.columns.len();
        self
    }

    /// Whether the last row is complete.
    pub(super) fn is_even(&self) -> bool {
        self.next == 0
    }
}

impl Bind for Table {
    fn put_int(&mut self, value: Option<i64>) -> &mut Self {
        self.push(oid::BIGINT, value.map(i64::to_be_bytes).as_ref().map(|bytes| bytes.as_slice()))
    }

    fn put_id(&mut self, value: Option<[u8; 16]>) -> &mut Self {
        self.push(oid::UUID, value.as_ref().map(|bytes| bytes.as_slice()))
    }

    fn put_text(&mut self, value: Option<Cow<'_, str>>) -> &mut Self {
        self.push(oid::TEXT, value.map(without_nul).as_ref().map(|text| text.as_bytes()))
    }

    fn put_bytes(&mut self, value: &[u8]) -> &mut Self {
        self.push(oid::BYTEA, Some(value))
    }
}

fn raw(row: &PgRow, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    if value.is_null() { Ok(None) } else { value.as_bytes().map(Some).map_err(sqlx::Error::Decode) }
}

impl Cells for PgRow {
    type Error = sqlx::Error;

    /// A number of any size, or a flag.
    fn int(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        let Some(bytes) = raw(self, column)? else { return Ok(None) };
        match *bytes {
            [flag] => Ok(Some(flag.into())),
            [a, b] => Ok(Some(i16::from_be_bytes([a, b]).into())),
            [a, b, c, d] => Ok(Some(i32::from_be_bytes([a, b, c, d]).into())),
            _ => match bytes.try_into() {
                Ok(bytes) => Ok(Some(i64::from_be_bytes(bytes))),
                Err(_) => Err(sqlx::Error::Decode("not a number".into())),
            },
        }
    }

    fn text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
        raw(self, column)?.map(|bytes| std::str::from_utf8(bytes).map_err(|error| sqlx::Error::Decode(error.into()))).transpose()
    }

    fn bytes(&self, column: usize) -> Result<Option<&[u8]>, sqlx::Error> {
        raw(self, column)
    }
}

/// What a row's values take.
pub(super) fn row_bytes(row: &PgRow) -> usize {
    (0..row.len()).filter_map(|column| raw(row, column).ok().flatten().map(<[u8]>::len)).sum()
}
