//! What a step may hold and say.

use std::sync::Arc;

use serde_json::json;
use tower_domain::step::{Executor, LOG_LINE_BYTES_MAX};

use crate::bench::{Bench, FakeHost, fatal, output, retryable};
use crate::guests::{CHILDREN, DONE, Guest, REPORT};

#[tokio::test]
async fn w08_endless_recursion_is_a_stack_overflow() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "recurse" })).await;
    assert_eq!(fatal(bench.run(step).await).0, "GUEST_STACK_OVERFLOW");
}

#[tokio::test]
async fn w09_growth_ends_at_the_limit() {
    let bench = Bench::new();
    let limit = 8 << 20;
    let step = bench.probe(json!({ "do": "grow", "catch": true })).await.spec("resource_profile", json!({ "memory_bytes": limit }));
    let bytes = output(bench.run(step).await)["bytes"].as_u64().unwrap();
    assert!((limit / 4..=limit).contains(&bytes), "{bytes}");
    let step = bench.probe(json!({ "do": "grow" })).await.spec("resource_profile", json!({ "memory_bytes": limit }));
    let (code, message) = fatal(bench.run(step).await);
    assert!(code == "GUEST_MEMORY_LIMIT" && message.contains("8388608"), "{code} {message}");
}

#[tokio::test]
async fn w11_memories_count_together() {
    let bench = Bench::new();
    // Three of 20 MiB each and the guest's own: no single one is over the limit.
    let guest = Guest::new(DONE).part("(memory 320) (memory 320) (memory 320)").component();
    let step = bench.step(guest.clone(), json!({})).await.spec("resource_profile", json!({ "memory_bytes": 60 << 20 }));
    assert_eq!(fatal(bench.run(step).await).0, "GUEST_MEMORY_LIMIT");
    let step = bench.step(guest, json!({})).await.spec("resource_profile", json!({ "memory_bytes": 64 << 20 }));
    assert_eq!(output(bench.run(step).await), json!(1));
}

#[tokio::test]
async fn a_run_takes_as_many_slots_as_it_has_memories() {
    let bench = Bench::new();
    let guest = Guest::new("(loop (br 0)) unreachable").part("(memory 1) (memory 1)").component();
    let host = Arc::new(FakeHost::new());
    let running = bench.start(bench.step(guest, json!({})).await, &host);
    crate::bench::wait_until("it runs", || bench.executor.free_slots() == 97).await;
    host.stop.send_replace(Some(tower_domain::step::Stop::Cancelled));
    running.await.unwrap();
    assert_eq!(bench.executor.free_slots(), 100);
}

#[tokio::test]
async fn w14_a_table_that_cannot_grow_is_no_failure() {
    let bench = Bench::new();
    let guest = Guest::new("(drop (table.grow $t (ref.null func) (i32.const 10000000))) (i32.const 1024)").part("(table $t 1 funcref)").component();
    let step = bench.step(guest, json!({})).await;
    assert_eq!(output(bench.run(step).await), json!(1));
}

#[tokio::test]
async fn w16_a_flood_of_handles_ends_the_step() {
    let bench = Bench::new();
    let guest = Guest::new("(loop (drop (call $get)) (br 0)) unreachable").import(r#"(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $get (result i32)))"#);
    let guest = crate::guests::encode_wit(&guest.core(), &with_wasi_cli(), "test:t/w");
    let step = bench.step(guest, json!({})).await;
    assert_eq!(fatal(bench.run(step).await).0, "GUEST_QUOTA");
}

/// A world with the contract's step and one interface of WASI.
fn with_wasi_cli() -> String {
    crate::guests::world_with(
        "import wasi:cli/stdout@0.2.6;",
        "package wasi:io@0.2.6 { interface streams { resource output-stream; } }
         package wasi:cli@0.2.6 { interface stdout { use wasi:io/streams@0.2.6.{output-stream}; get-stdout: func() -> output-stream; } }",
    )
}

#[tokio::test]
async fn w40_random_bytes_are_bounded() {
    let bench = Bench::new();
    let guest = Guest::new("(call $random (i64.const 1048576) (i32.const 3072)) (i32.const 1024)")
        .import(r#"(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))"#);
    let wit = crate::guests::world_with(
        "import wasi:random/random@0.2.6;",
        "package wasi:random@0.2.6 { interface random { get-random-bytes: func(len: u64) -> list<u8>; } }",
    );
    let step = bench.step(crate::guests::encode_wit(&guest.core(), &wit, "test:t/w"), json!({})).await;
    let (code, message) = retryable(bench.run(step).await);
    assert_eq!(code, "GUEST_TRAP", "{message}");
}

#[tokio::test]
async fn w19_a_result_past_the_bound_is_refused() {
    let bench = Bench::new();
    for bytes in [1_048_577, 3 << 20] {
        let step = bench.probe(json!({ "do": "big_output", "bytes": bytes })).await;
        assert_eq!(fatal(bench.run(step).await).0, "GUEST_RESULT_TOO_LARGE");
    }
    let step = bench.probe(json!({ "do": "big_output", "bytes": 1_048_576 })).await;
    assert_eq!(output(bench.run(step).await).as_str().map(str::len), Some(1_048_574));
    // So large that it is not even copied.
    let step = bench.step(Guest::returning("", 40 << 20).pages(700).component(), json!({})).await;
    assert_eq!(fatal(bench.run(step).await).0, "GUEST_RESULT_TOO_LARGE");
}

#[tokio::test]
async fn w21_a_message_past_the_bound_ends_the_step() {
    let bench = Bench::new();
    for bytes in [65_537, 40 << 20] {
        let guest = Guest::new(&format!("(call $progress (i32.const 1) (i32.const 65536) (i32.const {bytes})) (i32.const 1024)"))
            .import(&format!(r#"(import "{REPORT}" "progress" (func $progress (param i32 i32 i32)))"#))
            .pages(700)
            .component();
        let step = bench.step(guest, json!({})).await;
        let host = Arc::new(FakeHost::new());
        assert_eq!(fatal(bench.executor.run(step.build(), host.clone()).await).0, "GUEST_QUOTA");
        assert!(host.progress.lock().unwrap().is_empty());
    }
    let step = bench.probe(json!({ "do": "log", "lines": 1, "bytes": 65_536 })).await;
    output(bench.run(step).await);
}

#[tokio::test]
async fn json_that_is_none_ends_the_step() {
    let bench = Bench::new();
    let guest = Guest::new("(call $partial (i32.const 3072) (i32.const 1)) (i32.const 1024)")
        .import(&format!(r#"(import "{REPORT}" "partial-output" (func $partial (param i32 i32)))"#))
        .part(r#"(data (i32.const 3072) "{")"#)
        .component();
    let step = bench.step(guest, json!({})).await;
    assert_eq!(fatal(bench.run(step).await).0, "GUEST_BAD_JSON");
}

#[tokio::test]
async fn a_cursor_that_no_page_gave_ends_the_step() {
    let bench = Bench::new();
    let guest = Guest::new("(call $page (i32.const 1) (i32.const 3072) (i32.const 3) (i32.const 10) (i32.const 3200)) (i32.const 1024)")
        .import(&format!(r#"(import "{CHILDREN}" "next-page" (func $page (param i32 i32 i32 i32 i32)))"#))
        .part(r#"(data (i32.const 3072) "abc")"#)
        .component();
    let step = bench.step(guest, json!({})).await;
    assert_eq!(fatal(bench.run(step).await).0, "GUEST_BAD_CALL");
}

#[tokio::test]
async fn w24_long_lines_are_cut_and_control_characters_shown() {
    let bench = Bench::new();
    let host = Arc::new(FakeHost::new());
    let step = bench.probe(json!({ "do": "print", "stdout": format!("{}\n\u{1b}[31mred\rgone\nrest", "x".repeat(300_000)) })).await;
    output(bench.executor.run(step.build(), host.clone()).await);
    let lines = host.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].len() <= LOG_LINE_BYTES_MAX + 20 && lines[0].ends_with('…'));
    assert_eq!(lines[1], "STDOUT INFO \\u{1b}[31mred\\u{d}gone");
}
