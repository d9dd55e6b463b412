//! Reading one log.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use command_tower::prelude::*;
use serde::{Deserialize, Serialize};

/// Between so many lines the step asks whether it is cancelled.
const LINES_AT_A_TIME: u64 = 10_000;

/// What a log says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) lines: u64,
    pub(crate) errors: u64,
    pub(crate) warnings: u64,
    /// The first line with an error, cut.
    pub(crate) first_error: Option<String>,
}

/// Longest text of a line that is kept, in characters.
const SHOWN_MAX: usize = 160;

impl Counts {
    fn add(&mut self, line: &str) {
        self.lines += 1;
        let has = |word: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part.eq_ignore_ascii_case(word));
        if has("error") || has("fatal") {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| line.trim().chars().take(SHOWN_MAX).collect());
        } else if has("warn") || has("warning") {
            self.warnings += 1;
        }
    }
}

/// Counts a file, line by line.
pub(crate) fn file(path: &Path) -> Result<Counts> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::fatal("NO_FILE", format!("{}: {error}", path.display())),
        _ => error.into(),
    })?;
    let mut counts = Counts::default();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        counts.add(&String::from_utf8_lossy(&line));
        line.clear();
        if counts.lines.is_multiple_of(LINES_AT_A_TIME) {
            check_cancel()?;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::Tower;

    #[test]
    fn words_are_counted_and_the_first_error_is_kept() {
        let _tower = Tower::new();
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = "INFO up\nWARN slow disk\n[error] first\nlevel=ERROR second\nno terror here\nwarning: again";
        std::fs::write(file.path(), text).expect("written");
        let counts = super::file(file.path()).expect("counted");
        assert_eq!(counts, Counts { lines: 6, errors: 2, warnings: 2, first_error: Some("[error] first".to_owned()) });
    }

    #[test]
    fn a_file_that_is_gone_is_not_tried_again() {
        let _tower = Tower::new();
        let error = super::file(Path::new("/no/such/file.log")).expect_err("it is not there");
        assert_eq!((error.code(), error.is_retryable()), ("NO_FILE", false));
    }
}
