//! What is refused before it is kept, with a stable word and a remedy.

use std::time::{Duration, Instant};

use tower_executors::wasm::{InspectError, inspect};

use crate::bench::{module, probe};
use crate::guests::{DONE, Guest, encode, encode_wit, world_with};

#[track_caller]
fn refused(bytes: &[u8], code: &str) -> String {
    let error = inspect(bytes).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn a_module_is_described_from_its_bytes() {
    let inspection = inspect(probe()).unwrap();
    assert_eq!((inspection.contract.as_str(), inspection.aggregates, inspection.size_bytes), ("0.1.0", true, probe().len() as u64));
    assert!(inspection.exports.contains(&"command-tower:agent/step@0.1.0".to_owned()), "{:?}", inspection.exports);
    assert!(inspection.imports.contains(&"command-tower:agent/split@0.1.0".to_owned()), "{:?}", inspection.imports);
    assert!(inspection.capabilities.is_empty());
    assert!(inspection.wit.contains("export command-tower:agent/step@0.1.0;") && inspection.wit.contains("record task {"), "{}", inspection.wit);
    assert!(!inspect(module("financial-analysis", "strategy")).unwrap().aggregates);
}

#[test]
fn w32_what_is_no_component_is_told_what_it_is() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"\0asm\x01\0\0\0", "wasm32-wasip2"),
        (b"\x7fELF\x02\x01\x01", "native program"),
        (b"PK\x03\x04", "archive"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"\0asm\x63\0\x01\0", "version"),
        (b"hello", "not a WebAssembly component"),
    ] {
        let text = refused(bytes, "NOT_A_COMPONENT");
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn w32_what_is_cut_short_or_has_something_behind_it_is_refused() {
    let probe = probe();
    for keep in [9, 100, probe.len() / 2, probe.len() - 1] {
        refused(&probe[..keep], "NOT_A_COMPONENT");
    }
    refused(&[probe, b"trailing"].concat(), "NOT_A_COMPONENT");
}

#[test]
fn w33_a_component_without_a_step_is_refused() {
    let text = refused(b"\0asm\x0d\0\x01\0", "WORLD_MISMATCH");
    assert!(text.contains("command-tower:agent/step") && text.contains("exports nothing"), "{text}");
    let command = "package wasi:cli@0.2.6 { interface run { run: func() -> result; } }";
    let program = encode_wit(
        r#"(module (func (export "wasi:cli/run@0.2.6#run") (result i32) (i32.const 0)))"#,
        &format!("package test:t; world w {{ export wasi:cli/run@0.2.6; }} {command}"),
        "test:t/w",
    );
    let text = refused(&program, "WORLD_MISMATCH");
    assert!(text.contains("#[command_tower::step]"), "{text}");
}

#[test]
fn w33_a_step_of_another_type_is_refused() {
    let other = "package command-tower:agent@0.1.0 { interface step { run: func(task: string) -> string; } }";
    let core = r#"(module (memory (export "memory") 1) (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "command-tower:agent/step@0.1.0#run") (param i32 i32) (result i32) unreachable))"#;
    let wrong = encode_wit(core, &format!("package test:t; world w {{ export command-tower:agent/step@0.1.0; }} {other}"), "test:t/w");
    let text = refused(&wrong, "WORLD_MISMATCH");
    assert!(text.contains("step.run has another type"), "{text}");
}

#[test]
fn w33_another_version_of_the_contract_is_refused_with_those_that_run() {
    for version in ["0.2.0", "0.1.7", "1.0.0"] {
        let other = format!("package command-tower:agent@{version} {{ interface step {{ run: func(); }} }}");
        let core = format!(r#"(module (func (export "command-tower:agent/step@{version}#run")))"#);
        let wrong = encode_wit(&core, &format!("package test:t; world w {{ export command-tower:agent/step@{version}; }} {other}"), "test:t/w");
        let text = refused(&wrong, "WORLD_MISMATCH");
        assert!(text.contains(version) && text.contains("runs 0.1.0"), "{text}");
    }
}

#[test]
fn w34_text_is_refused() {
    for text in ["(component)", "  ;; a comment\n(component)", "(module)"] {
        assert!(refused(text.as_bytes(), "NOT_A_COMPONENT").contains("text"));
    }
}

#[test]
fn w35_a_native_image_is_refused() {
    let engine = wasmtime::Engine::default();
    let image = engine.precompile_component(&Guest::new(DONE).component()).unwrap();
    refused(&image, "PRECOMPILED");
}

#[test]
fn w36_unknown_imports_are_listed() {
    let core = Guest::new(DONE).import(r#"(import "other:thing/api@1.0.0" "go" (func $go))"#).core();
    let wit = world_with("import other:thing/api@1.0.0;", "package other:thing@1.0.0 { interface api { go: func(); } }");
    let error = inspect(&encode_wit(&core, &wit, "test:t/w")).unwrap_err();
    assert!(matches!(&error, InspectError::UnknownImport { imports, .. } if imports == &["other:thing/api@1.0.0"]), "{error}");
}

#[test]
fn w37_sockets_and_http_are_denied_and_listed() {
    for (interface, package) in [
        ("wasi:sockets/tcp@0.2.6", "package wasi:sockets@0.2.6 { interface tcp { go: func(); } }"),
        ("wasi:http/outgoing-handler@0.2.6", "package wasi:http@0.2.6 { interface outgoing-handler { go: func(); } }"),
        ("wasi:cli/command@0.2.6", "package wasi:cli@0.2.6 { interface command { go: func(); } }"),
        ("wasi:clocks/wall-clock@0.3.0", "package wasi:clocks@0.3.0 { interface wall-clock { go: func(); } }"),
    ] {
        let core = Guest::new(DONE).import(&format!(r#"(import "{interface}" "go" (func $go))"#)).core();
        let wrong = encode_wit(&core, &world_with(&format!("import {interface};"), package), "test:t/w");
        let text = refused(&wrong, "IMPORT_DENIED");
        assert!(text.contains(interface) && text.contains("no network"), "{text}");
    }
}

#[test]
fn w12_w13_features_that_are_off_are_named() {
    for part in ["(type $a (array i8))", "(memory i64 1)", "(memory 1 2 shared)", "(tag $t)"] {
        let core = format!("(component (core module {part}))");
        refused(&component(&core), "FEATURE_OFF");
    }
    refused(&component("(component (type (func async)))"), "FEATURE_OFF");
}

#[test]
fn w10_memory_that_no_host_could_give_is_refused() {
    let core = Guest::new(DONE).pages(65_536).core();
    let text = refused(&encode(&core, "agent"), "STATIC_LIMIT");
    assert!(text.contains("bytes of memory"), "{text}");
}

#[test]
fn w11_more_memories_and_tables_than_a_slot_holds_are_refused() {
    let many = |part: &str, count: usize| encode(&Guest::new(DONE).part(&part.repeat(count)).core(), "agent");
    assert!(refused(&many("(memory 1)", 10), "STATIC_LIMIT").contains("11 memories"));
    assert!(refused(&many("(table 1 funcref)", 20), "STATIC_LIMIT").contains("tables"));
    assert!(refused(&many("(table 30000 funcref)", 1), "STATIC_LIMIT").contains("30000 elements"));
    inspect(&many("(memory 1)", 3)).unwrap();
}

#[test]
fn w15_too_many_core_instances_are_refused() {
    let instances = "(core instance (instantiate $m))".repeat(200);
    let text = refused(&component(&format!("(component (core module $m) {instances})")), "STATIC_LIMIT");
    assert!(text.contains("200 core instances"), "{text}");
}

#[test]
fn w41_a_type_bomb_is_refused() {
    let mut types = "(type $t0 (tuple u8 u8 u8 u8 u8 u8 u8 u8 u8 u8))".to_owned();
    for level in 1..8 {
        let below = format!("$t{} ", level - 1).repeat(10);
        types.push_str(&format!("(type $t{level} (tuple {below}))"));
    }
    refused(&component(&format!("(component {types})")), "STATIC_LIMIT");
}

#[test]
fn w42_nested_instances_that_come_to_millions_are_counted_not_compiled() {
    let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..9 {
        let below = format!("(instance (instantiate $c{}))", level - 1).repeat(10);
        text = format!("(component $c{level} {text} {below})");
    }
    let bytes = component(&text);
    assert!(bytes.len() < 2_000, "{} bytes", bytes.len());
    let begin = Instant::now();
    let text = refused(&bytes, "STATIC_LIMIT");
    assert!(text.contains("100000000 core instances"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn w42_a_bomb_behind_aliases_is_counted_as_well() {
    let bomb = r#"(component (core module $m) (component $a (core instance (instantiate (module $m))))
        (component $b (alias outer 1 $a (component $x)) (instance (instantiate $x)) (instance (instantiate $x)))
        (component $c (alias outer 1 $b (component $x)) (instance (instantiate $x)) (instance (instantiate $x)) (export "again" (component $x)))
        "#;
    let text = refused(
        &component(&format!(
            "{}{})",
            bomb.replace("(module $m)", "$m2").replace("(component $a ", "(component $a (alias outer 1 $m (core module $m2)) "),
            "(instance (instantiate $c))".repeat(11)
        )),
        "STATIC_LIMIT",
    );
    assert!(text.contains("44 core instances"), "{text}");
    // What comes out of an instance could be anything.
    let as_value = r#"(component (component $a (component $inner) (export "inner" (component $inner))) (instance $i (instantiate $a)) (alias export $i "inner" (component $x)))"#;
    assert!(refused(&component(as_value), "STATIC_LIMIT").contains("as values"));
}

#[test]
fn names_that_the_author_chose_reach_no_terminal_as_they_are() {
    let bytes = component(r#"(component (core module (func (export "\1b[31mred")) (func (export "\1b[31mred"))))"#);
    let text = refused(&bytes, "NOT_A_COMPONENT");
    assert!(text.contains("red") && !text.contains('\u{1b}'), "{text:?}");
}
