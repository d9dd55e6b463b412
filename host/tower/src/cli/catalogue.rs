//! Every stable code that a tower can say, from the three tables that have them: the API's problems, what tasks and modules end with, and
//! the command line's own. `tower help CODE` and docs/errors.md are both made of it.

use std::collections::BTreeMap;

use serde::Serialize;
use tower_domain::codes::Place;

use super::codes as own;
use super::failure::Exit;
use crate::api::codes as api;

/// What is known of a code.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Entry {
    /// The word.
    pub(crate) code: &'static str,
    /// What it means.
    pub(crate) means: String,
    /// What to do.
    pub(crate) remedy: Option<&'static str>,
    /// Where it is met.
    pub(crate) appears: Vec<&'static str>,
    /// The HTTP status, where the API answers it.
    pub(crate) http_status: Option<u16>,
    /// The exit code of a command that ends with it.
    pub(crate) exit_code: Option<u8>,
    /// Whether the tower tries again by itself, where it is a task's.
    pub(crate) retried: Option<bool>,
}

/// All of them, by name.
pub(crate) fn all() -> BTreeMap<&'static str, Entry> {
    let mut entries = BTreeMap::new();
    for code in tower_domain::codes::ALL {
        let (appears, retried) = place(code.place);
        let entry = Entry { code: code.name, means: tidy(code.when), remedy: Some(code.remedy), appears: vec![appears], retried, ..Entry::default() };
        entries.insert(code.name, entry);
    }
    for code in api::ALL {
        let entry = entries.entry(code.name).or_insert_with(|| Entry { code: code.name, means: tidy(code.doc), ..Entry::default() });
        if retells(&entry.means, code.doc) {
            entry.means.push_str(&format!(" In an answer of the API: {}", tidy(code.doc)));
        }
        entry.appears.push("the API's answer");
        entry.http_status = Some(code.status);
        entry.exit_code = Some(Exit::of_problem(code.status, code.name) as u8);
    }
    for code in own::ALL {
        let entry =
            entries.entry(code.name).or_insert_with(|| Entry { code: code.name, means: tidy(code.when), remedy: Some(code.remedy), ..Entry::default() });
        entry.appears.push("the command line");
        entry.exit_code = Some(code.exit as u8);
    }
    entries
}

/// Whether one word means something else in an answer of the API than on a task.
fn retells(means: &str, doc: &str) -> bool {
    !doc.is_empty() && means != tidy(doc)
}

fn place(place: Place) -> (&'static str, Option<bool>) {
    match place {
        Place::RetriedTask => ("a task's error", Some(true)),
        Place::EndedTask => ("a task's error", Some(false)),
        Place::Module => ("a refused module or definition; a task's error, where the module went later", Some(false)),
        Place::Split => ("a task's error, where its step handed on a refused split", Some(false)),
        Place::Sdk => ("a task's error, from the SDK", Some(false)),
        Place::Event => ("the verdict on a posted event", None),
    }
}

/// Doc comments bring a space for each line.
fn tidy(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names nearest to a word, the nearest first; none that is far off.
pub(crate) fn near<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    const NEAR: f64 = 0.6;
    const SHOWN_MAX: usize = 5;
    let mut near: Vec<(f64, &str)> = names.map(|name| (closeness(word, name), name)).filter(|(close, _)| *close > NEAR).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().map(|(_, name)| name).take(SHOWN_MAX).collect()
}

fn closeness(word: &str, name: &str) -> f64 {
    let (word, name) = (word.to_ascii_uppercase(), name.to_ascii_uppercase());
    let part = word.len() >= 4 && name.split('_').any(|part| part == word);
    if part { 1.0 } else { strsim::normalized_damerau_levenshtein(&word, &name) }
}

/// docs/errors.md.
#[cfg(test)]
fn markdown() -> String {
    let mut text = String::from(
        "# Error codes\n\n<!-- Made from the code: UPDATE_DOCS=1 cargo test -p command-tower --lib docs -->\n\n\
         Every code that a tower can say, on a task, in an answer of the API or on the command line. `tower help CODE` prints the same. Codes do not\n\
         change their meaning. A code that is not here is a guest's own: whoever wrote the module knows.\n",
    );
    for entry in all().values() {
        text.push_str(&format!("\n## {}\n\n{}\n", entry.code, entry.means));
        if let Some(remedy) = entry.remedy {
            text.push_str(&format!("\n*What to do:* {remedy}\n"));
        }
        text.push_str(&format!("\n{}\n", entry.facts().join(" · ")));
    }
    text
}

#[cfg(test)]
impl Entry {
    /// Where it appears and what follows from it, in short.
    fn facts(&self) -> Vec<String> {
        let mut facts = vec![format!("in {}", self.appears.join(", "))];
        facts.extend(self.http_status.map(|status| format!("HTTP {status}")));
        facts.extend(self.exit_code.map(|exit| format!("exit code {exit}")));
        facts.extend(self.retried.map(|retried| if retried { "retried by itself" } else { "not retried by itself" }.to_owned()));
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_have_every_code_as_the_code_says_it() {
        crate::docs_are_up_to_date("errors.md", &markdown());
    }

    #[test]
    fn every_entry_says_what_it_means_and_where() {
        for entry in all().values() {
            assert!(entry.means.ends_with('.') && !entry.appears.is_empty(), "{entry:?}");
        }
    }

    #[test]
    fn a_word_that_is_nearly_a_code_is_recognised() {
        let names = || all().into_keys();
        assert_eq!(near("GUEST_TIMEOT", names())[0], "GUEST_TIMEOUT");
        assert!(near("timeout", names()).contains(&"GUEST_TIMEOUT"));
        assert!(near("xyzzy", names()).is_empty());
    }

    fn sources(folder: std::path::PathBuf, into: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                sources(path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") && !path.ends_with("catalogue.rs") {
                into.push(path);
            }
        }
    }

    /// Literals that look like codes, where errors are made of them.
    #[test]
    fn no_code_is_made_up_beside_the_tables() {
        let makers = ["fatal(", "retryable(", "TaskError::new(", "rejected(", "code:", "Unknown =>", "(_) =>", "{ .. } =>", "Precompiled =>"];
        let known = all();
        let (mut files, mut seen, mut beside) = (Vec::new(), 0, Vec::new());
        for package in ["domain", "store", "engine", "executors", "tower"] {
            sources(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("src"), &mut files);
        }
        for path in files {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests make up codes as guests do.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (at, maker) in makers.iter().flat_map(|maker| text.match_indices(maker)) {
                let Some(rest) = text[at + maker.len()..].trim_start().strip_prefix('"') else { continue };
                let word: String = rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
                if word.contains('_') && rest[word.len()..].starts_with('"') {
                    seen += 1;
                    beside.extend((!known.contains_key(word.as_str())).then(|| format!("{}: {word}", path.display())));
                }
            }
        }
        assert!(seen > 5, "the sources are written in another way than this test reads them");
        assert_eq!(beside, Vec::<String>::new());
    }
}
