//! `tower watch`.

use clap::Args;
use tower_domain::id::TraceId;

use super::Context;
use super::failure::{Exit, Failure};
use super::keys::{Keys, Over};
use super::live::{Canvas, Source, outcome, watch, watch_with};
use super::output::{Format, err_line};
use crate::api::types::TraceBody;

/// What to watch.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The trace
    #[arg(add = super::complete::traces())]
    trace: TraceId,
}

pub(crate) async fn run(args: WatchArgs, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    if context.out.is_json() {
        return events(&client, args.trace, context).await;
    }
    let by_id = context.out.format() == Format::Id;
    let canvas = if by_id { Canvas::Stderr(context.err) } else { Canvas::Stdout(context.out.term) };
    let term = if by_id { context.err } else { context.out.term };
    let (keys, bottom) = if term.live { Keys::listen(client.clone(), args.trace, term).unzip() } else { (None, None) };
    let source = Source::Remote(client);
    let watching = or_detach(args.trace, watch_with(&source, args.trace, canvas, true, bottom));
    let trace = match keys {
        None => watching.await?,
        Some(keys) => tokio::select! {
            trace = watching => trace?,
            over = keys.hear() => return Err(match over {
                Over::Leave => detached(args.trace),
                Over::End => Failure::silent(Exit::Interrupted),
            }),
        },
    };
    if by_id {
        context.out.line(&trace.trace_id.to_string());
    }
    outcome(&trace)
}

/// For programs: the events, one a line.
async fn events(client: &super::client::Client, id: TraceId, context: &Context) -> Result<(), Failure> {
    use futures::StreamExt;
    let mut events = client.follow(id, 0);
    while let Some(event) = events.next().await {
        context.out.line(&serde_json::to_string(&event?).map_err(|error| Failure::usage(error.to_string()))?);
    }
    outcome(&client.get(&format!("/traces/{id}"), &[]).await?.read()?)
}

/// Watches to the end, or until Ctrl-C: the trace goes on without the watcher.
pub(crate) async fn watch_or_detach(source: &Source, id: TraceId, canvas: Canvas, lines: bool) -> Result<TraceBody, Failure> {
    or_detach(id, watch(source, id, canvas, lines)).await
}

/// Waits for what is asked of a trace, or until Ctrl-C: the trace goes on without whoever waits.
pub(crate) async fn or_detach<T>(id: TraceId, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        answer = asked => answer,
        _ = tokio::signal::ctrl_c() => Err(detached(id)),
    }
}

fn detached(id: TraceId) -> Failure {
    err_line(&format!("\ndetached: {}", goes_on(id)));
    Failure::silent(Exit::Interrupted)
}

/// What can be done about a trace that nobody waits for any more.
pub(crate) fn goes_on(id: TraceId) -> String {
    format!("the trace goes on\n  to watch it again: tower watch {id}\n  to end it:         tower cancel {id}")
}
