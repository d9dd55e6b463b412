//! Telling the outside how far a step is. Reports are observations: they are kept even if the attempt fails, and cost next to nothing
//! however many there are. For lines of text see [`log`](crate::log).

use serde::Serialize;

use crate::error::{Result, bounded};
use crate::host;

/// How far the step has come: 0 to 100 (more counts as 100), with a line for people, cut at 64 KiB. Readers see the latest.
pub fn progress(percent: u8, message: impl Into<String>) {
    host::progress(percent.min(100), &bounded(message.into()));
}

/// The same, from how many of how many are done. Of nothing, everything is done.
pub fn progress_of(done: usize, total: usize, message: impl Into<String>) {
    let share = (done.min(total) as u128 * 100).checked_div(total as u128).unwrap_or(100);
    progress(u8::try_from(share).unwrap_or(100), message);
}

/// A piece of the output before the end, for those who watch live. At most 1 MiB of JSON.
///
/// # Errors
/// Fatal, code `BAD_JSON`, when it does not become JSON.
pub fn partial_output(value: &(impl Serialize + ?Sized)) -> Result<()> {
    host::partial_output(&serde_json::to_string(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tower;

    #[test]
    fn shares_are_whole_percents() {
        let tower = Tower::new();
        progress_of(1, 3, "a third");
        progress_of(5, 3, "too much");
        progress_of(0, 0, "nothing to do");
        progress(200, "more than all");
        let percents: Vec<u8> = tower.progress().iter().map(|(percent, _)| *percent).collect();
        assert_eq!(percents, [33, 100, 100, 100]);
    }
}
