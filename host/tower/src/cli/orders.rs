//! `tower cancel` and `tower retry`.

use clap::Args;
use reqwest::Method;
use tower_domain::id::TraceId;

use super::Context;
use super::failure::Failure;
use super::logs::{Which, which};
use crate::api::types::{CancelBody, CancelWord, Reason, TraceStarted};

/// What to cancel.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// A trace, or a task: then everything below it too
    #[arg(add = super::complete::traces())]
    id: String,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
}

/// What to retry.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// A trace that has ended
    #[arg(add = super::complete::traces())]
    trace: TraceId,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
    /// The same key again is the same new trace
    #[arg(long)]
    key: Option<String>,
}

pub(crate) async fn cancel(args: CancelArgs, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let path = match which(&client, &args.id).await? {
        Which::Trace(id) => format!("/traces/{id}/cancel"),
        Which::Task(id) => format!("/tasks/{id}/cancel"),
    };
    let reply = client.json(Method::POST, &path, &[], &Reason { reason: args.reason }, None).await?;
    let cancelled: CancelBody = reply.read()?;
    context.out.one(&reply, &args.id, |_| match cancelled.outcome {
        CancelWord::Ordered => format!("cancelling: {} ended at once, {} running were told\n", cancelled.ended, cancelled.running),
        CancelWord::AlreadyCancelling => "it was being cancelled already\n".to_owned(),
        CancelWord::AlreadyEnded => "it had ended already\n".to_owned(),
    });
    Ok(())
}

pub(crate) async fn retry(args: RetryArgs, context: &Context) -> Result<(), Failure> {
    let reply =
        context.client()?.json(Method::POST, &format!("/traces/{}/retry", args.trace), &[], &Reason { reason: args.reason }, args.key.as_deref()).await?;
    let started: TraceStarted = reply.read()?;
    context.out.one(&reply, &started.trace_id.to_string(), |_| format!("{}\n", started.trace_id));
    Ok(())
}
