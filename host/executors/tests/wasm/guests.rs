//! Components made of a core module written as text, with the types of `wit/` put around it.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// Where the parts of a [`Guest`] leave room in its memory: the result at 1024, its text at 2048, free from 3072, from 8192 on the allocator.
const BEGINNING: &str = r#"
  (global $top (mut i32) (i32.const 8192))
  (func (export "cabi_realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1))) (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $at) (local.get $len)))
    (local.get $at))
"#;

pub(crate) const CONTROL: &str = "command-tower:agent/control@0.1.0";
pub(crate) const REPORT: &str = "command-tower:agent/report@0.1.0";
pub(crate) const CHILDREN: &str = "command-tower:agent/children@0.1.0";

/// A module that exports `step.run`.
pub(crate) struct Guest {
    imports: String,
    pages: u32,
    parts: String,
    body: String,
    output: String,
    output_bytes: usize,
}

/// Leaves the address of `ok(done(output))`.
pub(crate) const DONE: &str = "(i32.const 1024)";

impl Guest {
    /// `body` leaves the address of the result on the stack, such as [`DONE`], whose output is `1`.
    pub(crate) fn new(body: &str) -> Self {
        Self { imports: String::new(), pages: 2, parts: String::new(), body: body.to_owned(), output: "1".to_owned(), output_bytes: 1 }
    }

    /// Returns a text as its output, whatever it is; of so many bytes, whatever is there.
    pub(crate) fn returning(escaped: &str, bytes: usize) -> Self {
        Self { output: escaped.to_owned(), output_bytes: bytes, ..Self::new(DONE) }
    }

    pub(crate) fn import(mut self, import: &str) -> Self {
        self.imports.push_str(import);
        self
    }

    pub(crate) fn part(mut self, part: &str) -> Self {
        self.parts.push_str(part);
        self
    }

    pub(crate) fn pages(mut self, pages: u32) -> Self {
        self.pages = pages;
        self
    }

    pub(crate) fn component(&self) -> Vec<u8> {
        encode(&self.core(), "agent")
    }

    /// The core module's text.
    pub(crate) fn core(&self) -> String {
        let Self { imports, pages, parts, body, output, output_bytes } = self;
        let length = le(*output_bytes);
        format!(
            r#"(module {imports} (memory (export "memory") {pages}) {BEGINNING} {parts}
              (data (i32.const 1036) "\00\08\00\00{length}") (data (i32.const 2048) "{output}")
              (func (export "command-tower:agent/step@0.1.0#run") (param $task i32) (result i32) {body}))"#
        )
    }
}

/// Four bytes of a data segment.
pub(crate) fn le(number: usize) -> String {
    (number as u32).to_le_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// Puts the types of a world of `wit/` around a core module.
pub(crate) fn encode(core: &str, world: &str) -> Vec<u8> {
    let group = UnresolvedPackageGroup::parse_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit")).unwrap();
    encode_with(core, group, world)
}

/// As [`encode`], with other WIT text.
pub(crate) fn encode_wit(core: &str, wit: &str, world: &str) -> Vec<u8> {
    let group = UnresolvedPackageGroup::parse("other.wit", wit).map_err(|(_, error)| error).unwrap();
    encode_with(core, group, world)
}

/// WIT text of the world `test:t/w`: the contract's step, and imports of other packages, which follow.
pub(crate) fn world_with(imports: &str, packages: &str) -> String {
    let wit = |file: &str| {
        let text = std::fs::read_to_string(format!("{}/../../wit/{file}.wit", env!("CARGO_MANIFEST_DIR"))).unwrap();
        text.lines().filter(|line| !line.starts_with("package ")).collect::<Vec<_>>().join("\n")
    };
    let contract = ["types", "step"].map(wit).join("\n");
    format!("package test:t;\nworld w {{ {imports} export command-tower:agent/step@0.1.0; }}\n{packages}\npackage command-tower:agent@0.1.0 {{\n{contract}\n}}")
}

fn encode_with(core: &str, group: UnresolvedPackageGroup, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::new();
    let package = resolve.push_group(group).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(core).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// A component of some kilobytes that keeps a compiler busy: every loop makes the compiler carry every local through. Time and memory
/// grow with the square of `size`; 4 000 take a minute and more than a gigabyte. `mark` tells bombs of one size apart.
pub(crate) fn compile_bomb(size: usize, mark: u32) -> Vec<u8> {
    let locals = "i64 ".repeat(size);
    let loops = "(loop (br_if 0 (i32.const 0)))".repeat(size);
    let uses: String = (0..size).map(|local| format!("(local.set 0 (i64.add (local.get 0) (local.get {local})))")).collect();
    let bomb = format!("(func (result i64) (local {locals}) {loops} {uses} (i64.add (local.get 0) (i64.const {mark})))");
    Guest::new(DONE).part(&bomb).component()
}
