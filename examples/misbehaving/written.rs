//! Modules that no compiler would make, written as WebAssembly text. Used by `examples/build.rs`.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// Where the parts leave room in memory: the result at 1024, its text at 2048, the task's text from 8192 on.
const BEGINNING: &str = r#"
  (global $top (mut i32) (i32.const 8192))
  (func (export "cabi_realloc") (param i32 i32) (param $align i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1))) (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $at) (local.get $len)))
    (local.get $at))"#;

/// All of them, by name.
pub(crate) fn modules(wit: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let step = |parts: &str| component(wit, &core(2, parts, "1", 1), "", "");
    vec![
        ("start-loop", step("(func $start (loop (br 0))) (start $start)")),
        ("bad-text", component(wit, &core(2, "", "\\ff\\fe", 2), "", "")),
        ("bad-pointer", component(wit, &core(2, "", "", 0x7fff_0000), "", "")),
        ("compile-bomb", step(&compile_bomb(4_000))),
        ("instance-bomb", text(&instance_bomb(8))),
        ("type-bomb", text(&type_bomb(8))),
        ("huge-memory", component(wit, &core(65_536, "", "1", 1), "", "")),
        ("many-memories", step(&"(memory 1)".repeat(20))),
        ("threads", text("(component (core module (memory 1 2 shared)))")),
        ("network", importing(wit, "wasi:sockets/tcp@0.2.6", "package wasi:sockets@0.2.6 { interface tcp { go: func(); } }")),
        ("unknown-import", importing(wit, "other:host/api@1.0.0", "package other:host@1.0.0 { interface api { go: func(); } }")),
        ("no-step", text("(component)")),
        ("core-module", text("(module)")),
        ("text", b"(component)".to_vec()),
    ]
}

/// A step whose output is `output`, of so many bytes, whatever is there.
fn core(pages: u32, parts: &str, output: &str, output_bytes: u32) -> String {
    let length: String = output_bytes.to_le_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module {parts} (memory $memory (export "memory") {pages}) {BEGINNING}
          (data (memory $memory) (i32.const 1036) "\00\08\00\00{length}") (data (memory $memory) (i32.const 2048) "{output}")
          (func (export "command-tower:agent/step@0.1.0#run") (param i32) (result i32) (i32.const 1024)))"#
    )
}

/// Every loop makes the compiler carry every local through: time and memory grow with the square of `size`.
fn compile_bomb(size: usize) -> String {
    let locals = "i64 ".repeat(size);
    let loops = "(loop (br_if 0 (i32.const 0)))".repeat(size);
    let uses: String = (0..size).map(|local| format!("(local.set 0 (i64.add (local.get 0) (local.get {local})))")).collect();
    format!("(func (result i64) (local {locals}) {loops} {uses} (local.get 0))")
}

/// Each level instantiates the one below ten times.
fn instance_bomb(levels: u32) -> String {
    let mut bomb = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..=levels {
        let below = format!("(instance (instantiate $c{}))", level - 1).repeat(10);
        bomb = format!("(component $c{level} {bomb} {below})");
    }
    bomb
}

/// Each type is made of ten of the one before.
fn type_bomb(levels: u32) -> String {
    let mut types = "(type $t0 (tuple u8 u8 u8 u8 u8 u8 u8 u8 u8 u8))".to_owned();
    for level in 1..levels {
        let below = format!("$t{} ", level - 1).repeat(10);
        types.push_str(&format!("(type $t{level} (tuple {below}))"));
    }
    format!("(component {types})")
}

fn importing(wit: &Path, interface: &str, package: &str) -> Vec<u8> {
    let import = format!(r#"(import "{interface}" "go" (func))"#);
    component(wit, &core(2, &import, "1", 1), &format!("import {interface};"), package)
}

/// Puts the contract's step, and what else is imported, around a core module.
fn component(wit: &Path, core: &str, imports: &str, packages: &str) -> Vec<u8> {
    let contract = ["types", "step"].map(|file| {
        let text = std::fs::read_to_string(wit.join(file).with_extension("wit")).expect("the contract is in wit/");
        text.lines().filter(|line| !line.starts_with("package ")).collect::<Vec<_>>().join("\n")
    });
    let world = format!(
        "package test:written;\nworld w {{ {imports} export command-tower:agent/step@0.1.0; }}\n{packages}\npackage command-tower:agent@0.1.0 {{\n{}\n}}",
        contract.join("\n")
    );
    let mut resolve = Resolve::new();
    let group = UnresolvedPackageGroup::parse("written.wit", &world).unwrap_or_else(|(_, error)| panic!("{error}"));
    let package = resolve.push_group(group).expect("the world is sound");
    let world = resolve.select_world(&[package], Some("test:written/w")).expect("there is this world");
    let mut module = text(core);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the types fit");
    ComponentEncoder::default().module(&module).and_then(|mut encoder| encoder.encode()).expect("a component comes of it")
}

fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is WebAssembly")
}
