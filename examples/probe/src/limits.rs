//! What a sandbox must survive.

use std::hint::black_box;

use command_tower::prelude::*;

/// Memory taken at a time by [`grow`].
const PIECE_BYTES: usize = 1024 * 1024;

/// Computes, and never ends.
pub(crate) fn run_for_ever(ask: bool) -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
        if ask {
            black_box(signal());
        }
    }
}

/// Uses up the stack.
pub(crate) fn recurse_for_ever() -> Value {
    json!(deeper(0))
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    black_box(deeper(depth + 1)) + frame[black_box(7)]
}

/// Takes memory until there is none, and returns how much there was.
pub(crate) fn grow(catch: bool) -> Value {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut piece = Vec::new();
        if catch && (piece.try_reserve_exact(PIECE_BYTES).is_err() || pieces.try_reserve(1).is_err()) {
            let bytes = pieces.len() * PIECE_BYTES;
            drop(pieces);
            return json!({ "bytes": bytes });
        }
        // Written to, so that it is memory and not only a promise of it.
        piece.resize(PIECE_BYTES, 1);
        pieces.push(black_box(piece));
    }
}

/// A text that has `bytes` bytes with its quotes.
pub(crate) fn big_output(bytes: usize) -> Value {
    Value::String("x".repeat(bytes.saturating_sub(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_output_has_the_size_that_was_asked_for() {
        assert_eq!(big_output(1000).to_string().len(), 1000);
        assert_eq!(big_output(0).to_string(), r#""""#);
    }
}
