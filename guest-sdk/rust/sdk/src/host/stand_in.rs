//! What a step talks to in an ordinary test. [`testing::Tower`](crate::testing::Tower) reads it back.

use std::cell::RefCell;

use serde_json::Value;

use crate::bindings::{children, split as splitting};
use crate::child::Child;
use crate::control::Signal;
use crate::log::Level;
use crate::testing::LogLine;

/// All that the steps of this thread have told the tower.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) children: Vec<Child>,
    pub(crate) progress: Vec<(u8, String)>,
    pub(crate) log: Vec<LogLine>,
    pub(crate) partial_outputs: Vec<Value>,
    pub(crate) slept_ms: u64,
    /// What is to be heard, after how many more questions.
    pub(crate) signal: Option<(usize, Signal)>,
}

thread_local! {
    pub(crate) static TOLD: RefCell<Told> = RefCell::default();
}

pub(crate) fn told<T>(f: impl FnOnce(&mut Told) -> T) -> T {
    TOLD.with_borrow_mut(f)
}

pub(crate) fn split(children: Vec<splitting::Child>) -> Result<Vec<String>, splitting::SplitError> {
    told(|told| {
        let first = told.children.len();
        told.children.extend(children.into_iter().map(Child::from_raw));
        Ok((first..told.children.len()).map(|index| format!("child-{index}")).collect())
    })
}

pub(crate) fn next_page(_cursor: Option<&str>, _limit: u32) -> children::Page {
    children::Page { items: Vec::new(), next: None }
}

pub(crate) fn progress(percent: u8, message: &str) {
    told(|told| told.progress.push((percent, message.to_owned())));
}

pub(crate) fn log(level: Level, message: &str, fields: Option<&str>) {
    let fields = fields.and_then(|json| serde_json::from_str(json).ok());
    told(|told| told.log.push(LogLine { level, message: message.to_owned(), fields }));
}

pub(crate) fn partial_output(json: &str) {
    let value = serde_json::from_str(json).unwrap_or(Value::Null);
    told(|told| told.partial_outputs.push(value));
}

pub(crate) fn check_cancel() -> Signal {
    told(|told| match &mut told.signal {
        None => Signal::GoOn,
        Some((0, signal)) => signal.clone(),
        Some((questions, _)) => {
            *questions -= 1;
            Signal::GoOn
        }
    })
}

/// Does not wait: a test should not.
pub(crate) fn sleep(milliseconds: u64) -> Signal {
    let signal = check_cancel();
    if signal == Signal::GoOn {
        told(|told| told.slept_ms = told.slept_ms.saturating_add(milliseconds));
    }
    signal
}
