//! The imports of the contract: check, ask the [`StepHost`](tower_domain::step::StepHost), answer.
//!
//! What a function has no error for (a message that is too long, JSON that is none) ends the step with a [`Refused`]. None of these
//! blocks, and all are async, so that a step that waits can be stopped.

use std::time::Duration;

use tower_domain::codes;
use tower_domain::definition::bounds::JSON_BYTES_MAX;
use tower_domain::id::TaskId;
use tower_domain::json::{BadJson, Json};
use tower_domain::step::{HostTrouble, LogLine, LogStream, RESULT_PAGE_MAX};
use tower_domain::task::{Output, clean};

use super::bindings::{children, control, report, split, types};
use super::convert;
use super::guest_state::GuestState;

/// Longest message to `report`, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Outputs on one page of results, in bytes; a page holds one result at the least.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// A call that ends the step: the guest's mistake, not the host's.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

fn refused(code: &'static str, message: String) -> wasmtime::Error {
    wasmtime::Error::new(Refused { code, message })
}

fn trouble(trouble: HostTrouble) -> wasmtime::Error {
    wasmtime::Error::new(trouble)
}

fn within(what: &str, text: &str) -> wasmtime::Result<()> {
    if text.len() <= MESSAGE_BYTES_MAX {
        return Ok(());
    }
    Err(refused(codes::GUEST_QUOTA.name, format!("{what}: a message of {} bytes, and {MESSAGE_BYTES_MAX} is the most", text.len())))
}

fn json(what: &str, text: &str, bytes_max: usize) -> wasmtime::Result<Json> {
    Json::parse(text, bytes_max).map_err(|error| match error {
        BadJson::TooLong { .. } => refused(codes::GUEST_QUOTA.name, format!("{what}: {error}")),
        BadJson::Invalid(why) => refused(codes::GUEST_BAD_JSON.name, format!("{what}: not JSON as the contract has it: {why}")),
    })
}

impl types::Host for GuestState {}

impl split::Host for GuestState {
    async fn split(&mut self, children: Vec<split::Child>) -> wasmtime::Result<Result<Vec<String>, split::SplitError>> {
        let children = children.into_iter().map(convert::child).collect();
        let answer = self.home.call(self.home.host.split(children)).await.map_err(trouble)?;
        Ok(match answer {
            Ok(ids) => Ok(ids.iter().map(TaskId::to_string).collect()),
            Err(refusal) => Err(convert::split_error(refusal)),
        })
    }
}

impl report::Host for GuestState {
    async fn progress(&mut self, percent: u8, message: String) -> wasmtime::Result<()> {
        within("report.progress", &message)?;
        self.home.host.progress(percent.min(100), &clean(&message, MESSAGE_BYTES_MAX));
        Ok(())
    }

    async fn log(&mut self, level: report::Level, message: String, fields: Option<String>) -> wasmtime::Result<()> {
        within("report.log", &message)?;
        let fields = fields.map(|fields| json("report.log, fields", &fields, MESSAGE_BYTES_MAX)).transpose()?;
        let level = convert::level(level);
        self.home.host.log(LogLine { stream: LogStream::Log, level, message: clean(&message, MESSAGE_BYTES_MAX), fields });
        Ok(())
    }

    async fn partial_output(&mut self, value: String) -> wasmtime::Result<()> {
        let value = json("report.partial-output", &value, JSON_BYTES_MAX)?;
        self.home.host.partial_output(value);
        Ok(())
    }
}

impl control::Host for GuestState {
    async fn check_cancel(&mut self) -> wasmtime::Result<control::Signal> {
        Ok(convert::signal(self.hear()))
    }

    async fn sleep(&mut self, milliseconds: u64) -> wasmtime::Result<control::Signal> {
        tokio::select! {
            biased;
            () = self.home.call(self.home.host.signalled(&self.heard)) => {}
            () = tokio::time::sleep(Duration::from_millis(milliseconds)) => {}
        }
        Ok(convert::signal(self.hear()))
    }
}

impl children::Host for GuestState {
    async fn next_page(&mut self, cursor: Option<String>, limit: u32) -> wasmtime::Result<children::Page> {
        let after = cursor.map(|cursor| cursor.parse::<TaskId>()).transpose();
        let after = after.map_err(|_| refused(codes::GUEST_BAD_CALL.name, "children.next-page: the cursor is none that an earlier page gave".to_owned()))?;
        let mut page = self.home.call(self.home.host.results(after, limit.clamp(1, RESULT_PAGE_MAX))).await.map_err(trouble)?;
        let mut bytes = 0;
        let fits = page.items.iter().take_while(|result| {
            let first = bytes == 0;
            bytes += 1 + result.output.as_ref().map_or(0, |output| match output {
                Output::Inline(json) => json.as_str().len(),
                Output::Ref(url) => url.len(),
            });
            first || bytes <= PAGE_BYTES_MAX
        });
        let fits = fits.count();
        if fits < page.items.len() {
            page.items.truncate(fits);
            page.next = page.items.last().map(|last| last.task_id);
        }
        Ok(children::Page { items: page.items.iter().map(convert::task_result).collect(), next: page.next.map(|next| next.to_string()) })
    }
}
