//! The API's types: what bodies look like. They convert from and to the domain's, so that a rename inside changes nothing outside.
//! They read as well as write: the command line is a client like any other.

mod bulk;
mod containers;
mod dead_letters;
mod definitions;
mod events;
mod health;
mod hosts;
mod limits;
mod modules;
mod schedules;
mod sessions;
mod tasks;
mod traces;
mod words;

pub(crate) use bulk::*;
pub(crate) use containers::*;
pub(crate) use dead_letters::*;
pub(crate) use definitions::*;
pub(crate) use events::*;
pub(crate) use health::*;
pub(crate) use hosts::*;
pub(crate) use limits::*;
pub(crate) use modules::*;
pub(crate) use schedules::*;
pub(crate) use sessions::*;
pub(crate) use tasks::*;
pub(crate) use traces::*;
pub(crate) use words::*;

use serde::{Deserialize, Serialize};
use tower_domain::task::{Output, TaskError};
use tower_store::read::Page;
use utoipa::ToSchema;

use super::extract::Limit;

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct List<T> {
    /// What is on it.
    pub(crate) items: Vec<T>,
    /// Hand this to the next request as `cursor`; null: this was the last page.
    pub(crate) next_cursor: Option<String>,
}

impl<T> List<T> {
    /// From a page of the store.
    pub(crate) fn of<S: Into<T>, C: ToString>(page: Page<S, C>) -> Self {
        Self { items: page.items.into_iter().map(Into::into).collect(), next_cursor: page.next.map(|cursor| cursor.to_string()) }
    }

    /// A page of what is small enough to be read whole, and is in the order of `key`.
    pub(crate) fn page_of<K: Ord + ToString>(items: Vec<T>, key: impl Fn(&T) -> &K, after: Option<&K>, limit: Limit) -> Self {
        let limit = limit.0 as usize;
        let mut items: Vec<T> = items.into_iter().filter(|item| after.is_none_or(|after| key(item) > after)).take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| key(last).to_string());
        Self { items, next_cursor }
    }

    /// All there is.
    pub(crate) fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }
}

/// Why something did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// Stable word: one of the host's, or the guest's own.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}

impl From<TaskError> for ErrorBody {
    fn from(TaskError { code, message }: TaskError) -> Self {
        Self { code, message }
    }
}

/// An output's two forms: the value, or where it is.
pub(crate) fn output_forms(output: Option<Output>) -> (Option<tower_domain::json::Json>, Option<String>) {
    match output {
        None => (None, None),
        Some(Output::Inline(json)) => (Some(json), None),
        Some(Output::Ref(url)) => (None, Some(url)),
    }
}
