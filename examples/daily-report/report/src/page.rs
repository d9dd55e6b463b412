//! The page that people read.

use std::fmt::Write as _;

use command_tower::prelude::*;

use crate::count::Counts;

/// The report: totals for programs, and a page of Markdown for people. A file that could not be read is named and not counted.
pub(crate) fn of(mut files: Vec<(String, Option<Counts>)>) -> Value {
    files.sort_by(|(a, left), (b, right)| errors(right).cmp(&errors(left)).then_with(|| a.cmp(b)));
    let mut total = Counts::default();
    let mut unread = Vec::new();
    let mut page = String::from("| log | lines | errors | warnings | the first error |\n|---|---|---|---|---|\n");
    for (name, counts) in &files {
        let Some(counts) = counts else {
            unread.push(name.clone());
            continue;
        };
        total.lines += counts.lines;
        total.errors += counts.errors;
        total.warnings += counts.warnings;
        let first = counts.first_error.as_deref().unwrap_or_default().replace('|', "\\|");
        let _ = writeln!(page, "| {name} | {} | {} | {} | {first} |", counts.lines, counts.errors, counts.warnings);
    }
    if !unread.is_empty() {
        let _ = writeln!(page, "\nNot read: {}.", unread.join(", "));
    }
    json!({ "files": files.len(), "lines": total.lines, "errors": total.errors, "warnings": total.warnings, "unread": unread, "page": page })
}

fn errors(counts: &Option<Counts>) -> u64 {
    counts.as_ref().map_or(0, |counts| counts.errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_log_comes_first_and_what_was_not_read_is_named() {
        let counts = |errors| Some(Counts { lines: 10, errors, warnings: 1, first_error: (errors > 0).then(|| "a|b".to_owned()) });
        let report = of(vec![("calm.log".to_owned(), counts(0)), ("bad.log".to_owned(), counts(3)), ("gone.log".to_owned(), None)]);
        assert_eq!((&report["files"], &report["lines"], &report["errors"]), (&json!(3), &json!(20), &json!(3)));
        let page = report["page"].as_str().expect("a page");
        assert!(page.find("bad.log") < page.find("calm.log"), "{page}");
        assert!(page.contains("a\\|b") && page.ends_with("Not read: gone.log.\n"), "{page}");
    }
}
