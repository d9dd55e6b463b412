//! The results that an aggregate folds.

use std::collections::VecDeque;

use crate::host;
use crate::task::TaskResult;

/// Results asked for at a time. Large enough that a call costs little a result, small enough to hold.
const PAGE_RESULTS: u32 = 200;

/// The results that an aggregate folds, in the order in which the tasks were split off: an iterator that reads them page by page, so that
/// a hundred thousand of them need no memory.
///
/// It can be gone through once. When the aggregate runs again after it split once more, it sees the new children's results
/// and the earlier ones.
#[derive(Debug)]
pub struct Results {
    summary: Summary,
    page: VecDeque<TaskResult>,
    position: Position,
}

#[derive(Debug)]
enum Position {
    Start,
    After(String),
    End,
}

/// How many tasks there were to wait for, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// All of them.
    pub expected: u32,
    /// Ended with an output.
    pub succeeded: u32,
    /// Ended with an error.
    pub failed: u32,
    /// Stopped by an order.
    pub cancelled: u32,
    /// Never begun, because something that they depended on did not succeed.
    pub skipped: u32,
}

impl Results {
    pub(crate) fn new(summary: Summary) -> Self {
        Self { summary, page: VecDeque::new(), position: Position::Start }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn given(summary: Summary, results: Vec<TaskResult>) -> Self {
        Self { summary, page: results.into(), position: Position::End }
    }

    /// How many results there are, by status, without reading them.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Iterator for Results {
    type Item = TaskResult;

    fn next(&mut self) -> Option<TaskResult> {
        loop {
            if let Some(result) = self.page.pop_front() {
                return Some(result);
            }
            let page = match &self.position {
                Position::Start => host::next_page(None, PAGE_RESULTS),
                Position::After(cursor) => host::next_page(Some(cursor), PAGE_RESULTS),
                Position::End => return None,
            };
            self.page = page.items.into_iter().map(TaskResult::from).collect();
            self.position = page.next.map_or(Position::End, Position::After);
        }
    }
}
