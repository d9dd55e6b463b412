//! `tower traces`.

use clap::Args;
use tower_domain::clock::{Clock, SystemClock, Timestamp};

use super::Context;
use super::failure::Failure;
use super::output::{PageArgs, ago};
use super::term::{Term, one_line, seconds};
use crate::api::types::{List, TraceBody};
use crate::config::parse_duration;

/// Which traces.
#[derive(Debug, Args)]
pub(crate) struct TracesArgs {
    /// In one of these states
    #[arg(long, value_delimiter = ',')]
    status: Vec<String>,
    /// Of this definition
    #[arg(long, value_name = "ID")]
    def: Option<String>,
    /// Of this user
    #[arg(long)]
    user: Option<String>,
    /// Begun in the last TIME, such as 24h
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<std::time::Duration>,
    #[command(flatten)]
    page: PageArgs,
}

pub(crate) async fn run(args: TracesArgs, context: &Context) -> Result<(), Failure> {
    let mut query = args.page.query();
    query.extend(args.status.iter().map(|status| ("status", status.clone())));
    query.extend(args.def.map(|def| ("definition_id", def)));
    query.extend(args.user.map(|user| ("user_id", user)));
    query.extend(args.since.map(|since| ("since", before_now(since).to_string())));
    let reply = context.client()?.get("/traces", &query).await?;
    let traces: List<TraceBody> = reply.read()?;
    let ids: Vec<String> = traces.items.iter().map(|trace| trace.trace_id.to_string()).collect();
    let rows: Vec<_> = traces.items.iter().map(|trace| row(&context.out.term, trace)).collect();
    context.out.list(&reply, &["STATE", "TRACE", "DEFINITION", "TASKS", "TIME", "BEGUN", "ERROR"], &rows, &ids)
}

fn before_now(by: std::time::Duration) -> Timestamp {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(SystemClock.now().as_micros().saturating_sub(micros).max(0))
}

fn row(term: &Term, trace: &TraceBody) -> Vec<String> {
    let ended = trace.counts.total - trace.counts.pending - trace.counts.running;
    let time = trace.started_at.map_or_else(String::new, |from| seconds(trace.finished_at.unwrap_or_else(|| SystemClock.now()).since(from)));
    let error = trace.error.as_ref().map_or_else(String::new, |error| format!("{} {}", error.code, one_line(&error.message)));
    vec![
        format!("{} {}{}", term.glyph(trace.status), trace.status, if trace.partial { " (partial)" } else { "" }),
        trace.trace_id.to_string(),
        trace.definition_id.to_string(),
        format!("{ended}/{}", trace.counts.total),
        time,
        ago(trace.created_at),
        error,
    ]
}
