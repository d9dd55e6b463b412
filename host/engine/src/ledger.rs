//! What steps did, written down outside of the database: for tests that must not take the database's own word for it.
//!
//! Only in builds with debug assertions, and only if `TOWER_LEDGER` names a file. A line is one JSON object, appended with one write
//! when a step's code is about to run, and one more when it has come to its result and nobody was told.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

use serde::Serialize;
use tower_domain::id::TaskId;
use tower_domain::step::Step;
use tower_domain::task::Output;
use tower_store::fault;
use tower_store::work::{Claimed, SettledEnd};

#[derive(Serialize)]
struct Line<'a> {
    what: &'static str,
    task: TaskId,
    fence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
    /// The JSON that it came to, or where it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<usize>,
}

/// A step's code is about to run.
pub(crate) fn begun(step: &Step) {
    if fault::COMPILED {
        write(&Line { what: "begun", task: step.task_id, fence: step.fence, end: None, output: None, children: None });
    }
}

/// A step has come to its result.
pub(crate) fn ended(claimed: &Claimed, end: &SettledEnd) {
    if fault::COMPILED {
        let (word, output, children) = match end {
            SettledEnd::Finished { output: Output::Inline(json), children, .. } => ("finished", Some(json.as_str()), Some(children.len())),
            SettledEnd::Finished { output: Output::Ref(url), children, .. } => ("finished", Some(url.as_str()), Some(children.len())),
            SettledEnd::Suspended { .. } => ("suspended", None, None),
            SettledEnd::Failed { .. } => ("failed", None, None),
            SettledEnd::Cancelled => ("cancelled", None, None),
            SettledEnd::Released => ("released", None, None),
        };
        write(&Line { what: "ended", task: claimed.task_id, fence: claimed.fence, end: Some(word), output, children });
    }
}

fn write(line: &Line<'_>) {
    static LEDGER: OnceLock<Option<File>> = OnceLock::new();
    let open = || std::env::var_os("TOWER_LEDGER").map(|path| OpenOptions::new().create(true).append(true).open(path).expect("TOWER_LEDGER names a file"));
    if let Some(mut file) = LEDGER.get_or_init(open).as_ref() {
        let mut bytes = serde_json::to_vec(line).expect("a line is always JSON");
        bytes.push(b'\n');
        file.write_all(&bytes).expect("the ledger can be written");
    }
}
