//! Asking before much is done.

use std::io::{IsTerminal, Write};

use super::codes;
use super::failure::{Exit, Failure};

/// Asks whoever sits at the terminal; a script has to say it beforehand. `verb` and its `participle`, such as `retry` and `retried`.
pub(crate) fn confirm(verb: &str, participle: &str, what: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::own(&codes::NOT_CONFIRMED, format!("{what} would be {participle}")));
    }
    let mut err = std::io::stderr();
    write!(err, "{verb} {what}? [y/N] ").and_then(|()| err.flush())?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::silent(Exit::Failed)) }
}
