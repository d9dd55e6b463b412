//! Results on standard output.

use std::io::Write;

use serde_json::value::RawValue;

use super::client::Reply;
use super::codes::NOT_WRITTEN;
use super::failure::Failure;
use super::term::{Term, table};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// The API's answer, byte for byte.
    Json,
    /// An item a line.
    Jsonl,
    /// An id a line.
    Id,
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    /// What it can show.
    pub(crate) term: Term,
}

/// A line on standard error.
pub(crate) fn err_line(text: &str) {
    // There is nowhere left to say that this failed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Output {
    pub(crate) fn new(format: Format, term: Term) -> Self {
        Self { format, term }
    }

    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether programs read this.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl)
    }

    /// Text as it is. Whoever closed the pipe has seen enough.
    pub(crate) fn text(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        wrote(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    /// A line.
    pub(crate) fn line(&self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// Bytes as they are; on a terminal, with an end of line.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let end: &[u8] = if self.term.live { b"\n" } else { b"" };
        wrote(out.write_all(bytes).and_then(|()| out.write_all(end)).and_then(|()| out.flush()));
    }

    /// One thing: its answer, its id, or what people read.
    pub(crate) fn one(&self, reply: &Reply, id: &str, for_people: impl FnOnce(&Term) -> String) {
        match self.format {
            Format::Json | Format::Jsonl => self.bytes(&reply.body),
            Format::Id => self.line(id),
            Format::Table => self.text(&for_people(&self.term)),
        }
    }

    /// A list: its answer, its items, their ids, or a table.
    pub(crate) fn list(&self, reply: &Reply, head: &[&str], rows: &[Vec<String>], ids: &[String]) -> Result<(), Failure> {
        #[derive(serde::Deserialize)]
        struct Items<'a> {
            #[serde(borrow)]
            items: Vec<&'a RawValue>,
            next_cursor: Option<String>,
        }
        let items: Items<'_> = serde_json::from_slice(&reply.body).map_err(|error| Failure::usage(error.to_string()))?;
        match self.format {
            Format::Json => self.bytes(&reply.body),
            Format::Jsonl => items.items.iter().for_each(|item| self.line(item.get())),
            Format::Id => ids.iter().for_each(|id| self.line(id)),
            Format::Table if rows.is_empty() => err_line("(none)"),
            Format::Table => self.text(&table(&self.term, head, rows)),
        }
        if let (Format::Table | Format::Id | Format::Jsonl, Some(next)) = (self.format, items.next_cursor) {
            err_line(&format!("there are more: --cursor {next}"));
        }
        Ok(())
    }

    /// Something that was made here and not answered by a server.
    pub(crate) fn made(&self, body: &impl serde::Serialize, id: &str, for_people: impl FnOnce(&Term) -> String) -> Result<(), Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::usage(error.to_string()))?;
        self.one(&Reply { status: 200, body: body.into(), date: None, retry_after: None }, id, for_people);
        Ok(())
    }
}

/// Pairs of names and values, a line each.
pub(crate) fn fields(term: &Term, pairs: &[(&str, String)]) -> String {
    let widest = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let shown = pairs.iter().filter(|(_, value)| !value.is_empty());
    shown
        .map(|(name, value)| format!("{}  {}\n", term.faint(&format!("{name:<widest$}")), value.replace('\n', &format!("\n{}", " ".repeat(widest + 2)))))
        .collect()
}

/// Which page of a list.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PageArgs {
    /// Items on a page
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
}

impl PageArgs {
    /// As query parameters.
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let mut query = vec![("limit", self.limit.to_string())];
        query.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        query
    }
}

/// How long ago.
pub(crate) fn ago(at: tower_domain::clock::Timestamp) -> String {
    use tower_domain::clock::{Clock, SystemClock};
    format!("{} ago", super::term::seconds(SystemClock.now().since(at)))
}

/// The time so long ago.
pub(crate) fn before_now(by: std::time::Duration) -> tower_domain::clock::Timestamp {
    use tower_domain::clock::{Clock, SystemClock, Timestamp};
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(SystemClock.now().as_micros().saturating_sub(micros).max(0))
}

/// Results that cannot be written are no success. Whoever closed the pipe has seen enough.
fn wrote(result: std::io::Result<()>) {
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("error[{}]: standard output cannot be written: {error}", NOT_WRITTEN.name);
        std::process::exit(NOT_WRITTEN.exit as i32);
    }
}
