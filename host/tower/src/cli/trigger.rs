//! `tower trigger`.

use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde_json::json;
use tower_domain::clock::Timestamp;
use tower_domain::id::{SessionId, TraceId};
use tower_domain::name::Name;

use super::Context;
use super::client::{Client, Reply};
use super::failure::Failure;
use super::live::{Canvas, Source, outcome};
use super::output::err_line;
use super::params::{ParamArgs, pairs};
use super::run::print;
use super::tree;
use super::watch::{goes_on, or_detach, watch_or_detach};
use crate::api::types::{TraceBody, TraceStarted, Window};
use crate::config::parse_duration;

/// The longest that one request waits.
const WAIT_PIECE: Duration = Duration::from_secs(30);

/// What to begin.
#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// The definition
    #[arg(add = super::complete::definitions())]
    definition: Name,
    #[command(flatten)]
    params: ParamArgs,
    /// 1 to 10, 10 the most urgent
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    priority: Option<u8>,
    /// The same key again is the same trace
    #[arg(long)]
    key: Option<String>,
    /// Not before, such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    at: Option<Timestamp>,
    /// At what hours the root may run, instead of the definition's: immediate, or nightly
    #[arg(long, visible_alias = "mode", value_name = "WINDOW", ignore_case = true, value_parser = window)]
    window: Option<Window>,
    /// The session that it is part of
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// A label (repeatable)
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Wait for the end, and print the output; give up after DURATION, such as 90s, if one is given
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "24h", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Show the tree meanwhile, and print the output
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
}

fn window(text: &str) -> Result<Window, String> {
    serde_json::from_value(json!(text.to_ascii_uppercase())).map_err(|_| "immediate, scheduled or nightly".to_owned())
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    serde_json::from_value(json!(text)).map_err(|error| error.to_string())
}

pub(crate) async fn run(args: TriggerArgs, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let (reply, started) = begin(&client, &args).await?;
    let id = started.trace_id;
    let source = Source::Remote(client.clone());
    if args.watch {
        let trace = watch_or_detach(&source, id, Canvas::Stderr(context.err), true).await?;
        print(&context.out, &trace, source.output(&trace).await?.as_ref())?;
        return outcome(&trace);
    }
    let Some(wait) = args.wait else {
        context.out.one(&reply, &id.to_string(), |_| format!("{id}\n"));
        return Ok(());
    };
    err_line(&format!("trace {id}"));
    let trace = or_detach(id, wait_for(&client, id, wait)).await?;
    err_line(&tree::summary(&context.err, &trace, tower_domain::clock::Clock::now(&tower_domain::clock::SystemClock)));
    if !trace.status.is_terminal() {
        err_line(&goes_on(id));
    }
    print(&context.out, &trace, source.output(&trace).await?.as_ref())?;
    outcome(&trace)
}

async fn begin(client: &Client, args: &TriggerArgs) -> Result<(Reply, TraceStarted), Failure> {
    let labels = pairs(&args.labels, "--label")?;
    let body = json!({ "params": args.params.read()?, "priority": args.priority, "run_at": args.at, "window": args.window, "labels": labels, "session_id": args.session, "trigger_type": "MANUAL" });
    let reply = client.json(Method::POST, &format!("/definitions/{}/trigger", args.definition), &[], &body, args.key.as_deref()).await?;
    let started = reply.read()?;
    Ok((reply, started))
}

/// Asks in pieces, so that no proxy between gives up.
async fn wait_for(client: &Client, id: TraceId, at_most: Duration) -> Result<TraceBody, Failure> {
    let begun = std::time::Instant::now();
    loop {
        let left = at_most.saturating_sub(begun.elapsed());
        let piece = left.min(WAIT_PIECE);
        let trace: TraceBody = client.get(&format!("/traces/{id}"), &[("wait", format!("{}ms", piece.as_millis()))]).await?.read()?;
        if trace.status.is_terminal() || left.is_zero() {
            return Ok(trace);
        }
    }
}
