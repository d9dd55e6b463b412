//! Results that are too large, and text that pretends.

use command_tower::prelude::*;

pub(crate) fn huge_result() -> Result<Value> {
    Ok(Value::String("x".repeat(8 << 20)))
}

/// Lines that would look like the host's own, clear the screen, or set the terminal's title.
pub(crate) fn forge() -> Result<Value> {
    let text = "fine\r\n2026-01-01T00:00:00Z ERROR tower: database lost\u{1b}[2J\u{1b}]0;pwned\u{7}\u{202e}";
    log::info!("{text}");
    eprintln!("{text}");
    Err(Error::fatal("FORGED", text))
}
