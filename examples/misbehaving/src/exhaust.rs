//! Taking what there is: time, memory, stack, room in the log.

use std::hint::black_box;
use std::time::Duration;

use command_tower::prelude::*;

/// Lines and reports of a flood: far more than anybody would keep.
const FLOOD: u32 = 300_000;
const PIECE_BYTES: usize = 1 << 20;

pub(crate) fn compute() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Asks all the time whether it is to stop, and does not care.
pub(crate) fn spin() -> ! {
    loop {
        black_box(signal());
    }
}

/// Stays in the host for a day, cancelled or not.
pub(crate) fn hang() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(86_400));
    }
}

pub(crate) fn recurse() -> Result<Value> {
    Ok(json!(deeper(0)))
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    black_box(deeper(depth + 1)) + frame[black_box(7)]
}

pub(crate) fn grow() -> ! {
    let mut pieces = Vec::new();
    loop {
        // Written to, so that it is memory and not only a promise of it.
        pieces.push(black_box(vec![1_u8; PIECE_BYTES]));
    }
}

/// Half of the lines say nothing at all.
pub(crate) fn flood_log() -> Result<Value> {
    for line in 0..FLOOD {
        if line % 2 == 0 {
            log::write(log::Level::Info, "", None);
        } else {
            println!("x");
        }
    }
    Ok(json!({ "lines": FLOOD }))
}

pub(crate) fn flood_progress() -> Result<Value> {
    for report in 0..FLOOD {
        report::progress((report % 101) as u8, "a long message, again and again, to be kept by somebody");
    }
    Ok(json!({ "reports": FLOOD }))
}
