//! Guests that break off, or return what is none.

use serde_json::json;

use crate::bench::{Bench, fatal, output, retryable};
use crate::guests::{DONE, Guest};

#[tokio::test]
async fn w17_traps_are_named() {
    let bench = Bench::new();
    for (body, word) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_u (i32.const 1) (i32.load (i32.const 3072)))) (i32.const 1024)", "divide by zero"),
        ("(drop (i32.load (i32.const -8))) (i32.const 1024)", "out of bounds memory"),
    ] {
        let step = bench.step(Guest::new(body).component(), json!({})).await;
        let (code, message) = retryable(bench.run(step).await);
        assert!(code == "GUEST_TRAP" && message.contains(word), "{code} {message}");
    }
}

#[tokio::test]
async fn w17_a_panic_is_told_in_its_own_words() {
    let bench = Bench::new();
    let step = bench.probe(json!({ "do": "panic", "message": "no \u{1b}[31mway" })).await;
    let (code, message) = retryable(bench.run(step).await);
    assert!(code == "GUEST_TRAP" && message.contains("panicked") && message.contains("no \\u{1b}[31mway"), "{message}");
    assert!(!message.contains('\u{1b}') && !message.contains("host/executors"), "{message}");
}

#[tokio::test]
async fn w18_results_that_cannot_be_read_are_bad_results() {
    let bench = Bench::new();
    let wild = |body: &str| Guest::new(body).component();
    for (what, guest) in [
        ("invalid UTF-8", Guest::returning("\\ff\\fe", 2).component()),
        ("text out of bounds", Guest::returning("", 0x7fff_0000).component()),
        ("record out of bounds", wild("(i32.const 0x7ffffff0)")),
        ("record not aligned", wild("(i32.const 1025)")),
        ("a case that is none", wild("(i32.store8 (i32.const 1024) (i32.const 9)) (i32.const 1024)")),
    ] {
        let step = bench.step(guest, json!({})).await;
        assert_eq!(fatal(bench.run(step).await).0, "GUEST_BAD_RESULT", "{what}");
    }
}

#[tokio::test]
async fn w27_outputs_that_are_no_json_are_bad_results() {
    let bench = Bench::new();
    for text in ["", "{", "\\22\\5cu0000\\22", "{\\22a\\22:1,\\22a\\22:2}", "1 2", "NaN"] {
        let bytes = wat_length(text);
        let step = bench.step(Guest::returning(text, bytes).component(), json!({})).await;
        assert_eq!(fatal(bench.run(step).await).0, "GUEST_BAD_RESULT", "{text}");
    }
}

/// The length of an escaped text: `\xx` is one byte.
fn wat_length(escaped: &str) -> usize {
    escaped.len() - 2 * escaped.matches('\\').count()
}

#[tokio::test]
async fn w26_an_exit_is_no_result() {
    let bench = Bench::new();
    for code in [0, 3] {
        let step = bench.probe(json!({ "do": "exit", "code": code })).await;
        assert_eq!(retryable(bench.run(step).await).0, "GUEST_NO_RESULT");
    }
}

#[tokio::test]
async fn w29_a_step_after_one_that_broke_off_runs_as_if_nothing_had_been() {
    let bench = Bench::new();
    for params in [json!({ "do": "panic" }), json!({ "do": "recurse" }), json!({ "do": "exit" })] {
        let step = bench.probe(params).await;
        bench.run(step).await;
        let step = bench.probe(json!({ "do": "echo", "value": 1 })).await;
        assert_eq!(output(bench.run(step).await), json!(1));
    }
}

#[tokio::test]
async fn an_allocator_that_hands_out_wild_addresses_hurts_only_itself() {
    let bench = Bench::new();
    let core = Guest::new(DONE).core().replace("(local.get $at))", "(i32.const 0x7fff0000))");
    let step = bench.step(crate::guests::encode(&core, "agent"), json!({})).await;
    let (code, message) = retryable_or_fatal(bench.run(step).await);
    assert!(code == "GUEST_TRAP" || code == "GUEST_BAD_RESULT", "{code} {message}");
}

fn retryable_or_fatal(end: tower_domain::step::StepEnd) -> (String, String) {
    match end {
        tower_domain::step::StepEnd::Failed(failure) => (failure.error.code, failure.error.message),
        other => panic!("it fails, not {other:?}"),
    }
}
