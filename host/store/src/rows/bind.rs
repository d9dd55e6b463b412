//! Handing a row's values over.

use std::borrow::Cow;

use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Lane;
use tower_domain::task::{Output, TaskError};

use super::columns::Id;
use super::words::Word;

/// Takes values one after the other, in the order of a statement's parameters or columns.
pub(crate) trait Bind: Sized {
    fn put_int(&mut self, value: Option<i64>) -> &mut Self;
    fn put_id(&mut self, value: Option<[u8; 16]>) -> &mut Self;
    fn put_text(&mut self, value: Option<Cow<'_, str>>) -> &mut Self;
    fn put_bytes(&mut self, value: &[u8]) -> &mut Self;

    fn int(&mut self, value: impl Into<i64>) -> &mut Self {
        self.put_int(Some(value.into()))
    }

    fn opt_int(&mut self, value: Option<impl Into<i64>>) -> &mut Self {
        self.put_int(value.map(Into::into))
    }

    /// Counters that cannot reach 2⁶³; cut there rather than wrapped.
    fn uint(&mut self, value: u64) -> &mut Self {
        self.put_int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn word(&mut self, value: impl Word) -> &mut Self {
        self.put_int(Some(value.code()))
    }

    fn opt_word(&mut self, value: Option<impl Word>) -> &mut Self {
        self.put_int(value.map(Word::code))
    }

    fn at(&mut self, value: Timestamp) -> &mut Self {
        self.put_int(Some(value.as_micros()))
    }

    fn opt_at(&mut self, value: Option<Timestamp>) -> &mut Self {
        self.put_int(value.map(Timestamp::as_micros))
    }

    fn id(&mut self, value: impl Id) -> &mut Self {
        self.put_id(Some(value.bytes()))
    }

    fn opt_id(&mut self, value: Option<impl Id>) -> &mut Self {
        self.put_id(value.map(Id::bytes))
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.put_bytes(value)
    }

    fn text<'t>(&mut self, value: impl Into<Cow<'t, str>>) -> &mut Self {
        self.put_text(Some(value.into()))
    }

    fn opt_text<'t>(&mut self, value: Option<impl Into<Cow<'t, str>>>) -> &mut Self {
        self.put_text(value.map(Into::into))
    }

    /// NULL is the lane that almost all tasks are in.
    fn lane(&mut self, value: &Lane) -> &mut Self {
        self.opt_text((*value != Lane::Process).then(|| value.to_string()))
    }

    /// Two columns: inline, and by reference.
    fn output(&mut self, value: Option<&Output>) -> &mut Self {
        match value {
            Some(Output::Inline(json)) => self.text(json.as_str()).opt_text(None::<String>),
            Some(Output::Ref(url)) => self.opt_text(None::<String>).text(url.as_str()),
            None => self.opt_text(None::<String>).opt_text(None::<String>),
        }
    }

    /// Two columns: code and message.
    fn error(&mut self, value: Option<&TaskError>) -> &mut Self {
        self.opt_text(value.map(|error| error.code.as_str())).opt_text(value.map(|error| error.message.as_str()))
    }
}
