//! The contract's imports.

use crate::bindings::{children, control, report, split as splitting};
use crate::control::Signal;
use crate::log::Level;

pub(crate) fn split(children: Vec<splitting::Child>) -> Result<Vec<String>, splitting::SplitError> {
    splitting::split(&children)
}

pub(crate) fn next_page(cursor: Option<&str>, limit: u32) -> children::Page {
    children::next_page(cursor, limit)
}

pub(crate) fn progress(percent: u8, message: &str) {
    report::progress(percent, message);
}

pub(crate) fn log(level: Level, message: &str, fields: Option<&str>) {
    let level = match level {
        Level::Debug => report::Level::Debug,
        Level::Info => report::Level::Info,
        Level::Warn => report::Level::Warn,
        Level::Error => report::Level::Error,
    };
    report::log(level, message, fields);
}

pub(crate) fn partial_output(json: &str) {
    report::partial_output(json);
}

pub(crate) fn check_cancel() -> Signal {
    heard(control::check_cancel())
}

pub(crate) fn sleep(milliseconds: u64) -> Signal {
    heard(control::sleep(milliseconds))
}

fn heard(signal: control::Signal) -> Signal {
    match signal {
        control::Signal::GoOn => Signal::GoOn,
        control::Signal::Pause => Signal::Pause,
        control::Signal::Cancel(reason) => Signal::Cancel(reason),
    }
}
