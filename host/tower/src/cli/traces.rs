//! `tower traces`.

use clap::Args;
use tower_domain::clock::{Clock, SystemClock};

use super::Context;
use super::failure::Failure;
use super::output::{PageArgs, ago, before_now};
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
    #[arg(long, value_name = "ID", add = super::complete::definitions())]
    def: Option<String>,
    /// Of this user
    #[arg(long)]
    user: Option<String>,
    /// Of this session
    #[arg(long, value_name = "ID")]
    session: Option<tower_domain::id::SessionId>,
    /// Begun in the last DURATION, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<std::time::Duration>,
    #[command(flatten)]
    page: PageArgs,
}

pub(crate) async fn run(args: TracesArgs, context: &Context) -> Result<(), Failure> {
    let mut query = args.page.query();
    query.extend(args.status.iter().map(|status| ("status", status.clone())));
    query.extend(args.def.clone().map(|def| ("definition_id", def)));
    query.extend(args.user.map(|user| ("user_id", user)));
    query.extend(args.session.map(|session| ("session_id", session.to_string())));
    query.extend(args.since.map(|since| ("since", before_now(since).to_string())));
    let client = context.client()?;
    let reply = client.get("/traces", &query).await?;
    let traces: List<TraceBody> = reply.read()?;
    if let (Some(definition), true) = (&args.def, traces.items.is_empty()) {
        // A definition without traces is one thing, a slip of the pen another.
        client.get(&format!("/definitions/{definition}"), &[]).await?;
    }
    let ids: Vec<String> = traces.items.iter().map(|trace| trace.trace_id.to_string()).collect();
    let rows: Vec<_> = traces.items.iter().map(|trace| row(&context.out.term, trace)).collect();
    context.out.list(&reply, &["STATE", "TRACE", "DEFINITION", "TASKS", "TIME", "BEGUN", "ERROR"], &rows, &ids)
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
