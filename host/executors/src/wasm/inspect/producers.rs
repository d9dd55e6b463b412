//! The source language, where a tool chain left it in the `producers` section.

use wasmparser::{KnownCustom, Parser, Payload};

/// Tools that wrap an interpreter: the language of the interpreter's own code is not the author's.
const BY_TOOL: &[(&str, &str)] =
    &[("componentize-py", "Python"), ("ComponentizeJS", "JavaScript"), ("componentize-qjs", "JavaScript"), ("jco", "JavaScript"), ("TinyGo", "Go")];

/// Longest word that is believed to be a language.
const LANGUAGE_BYTES_MAX: usize = 32;

/// The language of the component's code: of the tool that made it, else the first that any part names.
pub(super) fn language(bytes: &[u8]) -> Option<String> {
    let (mut by_tool, mut first) = (None, None);
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(Payload::CustomSection(section)) = payload else { continue };
        let KnownCustom::Producers(fields) = section.as_known() else { continue };
        for field in fields.into_iter().flatten() {
            for value in field.values.into_iter().flatten() {
                match field.name {
                    "processed-by" => {
                        by_tool = by_tool.or_else(|| BY_TOOL.iter().find(|(tool, _)| *tool == value.name).map(|(_, language)| (*language).to_owned()))
                    }
                    "language" if is_word(value.name) => {
                        first.get_or_insert_with(|| value.name.to_owned());
                    }
                    _ => {}
                }
            }
        }
    }
    by_tool.or(first)
}

fn is_word(text: &str) -> bool {
    (1..=LANGUAGE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'#' | b'-' | b'_' | b'.'))
}
