//! What is counted, and adding it up.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many of the largest files are kept.
const LARGEST_FILES: usize = 5;

/// What a folder and everything below it holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    /// Line ends, as `wc -l` counts them.
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// Folders, this one included.
    pub(crate) folders: u64,
    /// Files that could not be read; the log says why.
    pub(crate) unreadable: u64,
    /// By what follows the last dot, in lower case; `(none)` where there is no dot.
    pub(crate) by_extension: BTreeMap<String, Counts>,
    /// The largest first.
    pub(crate) largest: Vec<File>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Counts {
    pub(crate) files: u64,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    /// One folder, with nothing in it yet.
    pub(crate) fn folder() -> Self {
        Self { folders: 1, ..Self::default() }
    }

    pub(crate) fn add_file(&mut self, file: File) {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let extension = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() && !extension.is_empty() => extension.to_lowercase(),
            _ => "(none)".to_owned(),
        };
        let counts = Counts { files: 1, lines: file.lines, bytes: file.bytes };
        self.by_extension.entry(extension).or_default().add(counts);
        self.files += 1;
        self.lines += file.lines;
        self.bytes += file.bytes;
        self.largest.push(file);
        self.keep_the_largest();
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.folders += other.folders;
        self.unreadable += other.unreadable;
        for (extension, counts) in other.by_extension {
            self.by_extension.entry(extension).or_default().add(counts);
        }
        self.largest.extend(other.largest);
        self.keep_the_largest();
    }

    /// Equal sizes go by path, so that the result does not depend on the order of children.
    fn keep_the_largest(&mut self) {
        self.largest.sort_by(|a, b| (Reverse(a.bytes), &a.path).cmp(&(Reverse(b.bytes), &b.path)));
        self.largest.truncate(LARGEST_FILES);
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.lines += other.lines;
        self.bytes += other.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> File {
        File { path: path.to_owned(), lines: 1, bytes }
    }

    #[test]
    fn the_order_in_which_tallies_are_added_does_not_matter() {
        let tallies: Vec<Tally> = (0..8)
            .map(|n| {
                let mut tally = Tally::folder();
                tally.add_file(file(&format!("{n}.rs"), 10 + n % 3));
                tally
            })
            .collect();
        let sum = |tallies: &mut dyn Iterator<Item = &Tally>| {
            tallies.fold(Tally::default(), |mut sum, tally| {
                sum.add(tally.clone());
                sum
            })
        };
        let there = sum(&mut tallies.iter());
        assert_eq!(there, sum(&mut tallies.iter().rev()));
        assert_eq!(there.largest.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["2.rs", "5.rs", "1.rs", "4.rs", "7.rs"]);
        assert_eq!((there.files, there.folders, there.by_extension["rs"].lines), (8, 8, 8));
    }

    #[test]
    fn a_leading_dot_is_no_extension() {
        let mut tally = Tally::folder();
        for path in ["a/.gitignore", "a/Makefile", "a/x.TOML", "a.d/odd."] {
            tally.add_file(file(path, 1));
        }
        assert_eq!(tally.by_extension.keys().collect::<Vec<_>>(), ["(none)", "toml"]);
        assert_eq!(tally.by_extension["(none)"].files, 3);
    }
}
