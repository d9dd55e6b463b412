//! `tower cancel`, `tower pause`, `tower resume`, `tower retry` and `tower rerun`.

use clap::Args;
use reqwest::Method;
use serde_json::json;
use tower_domain::id::{TaskId, TraceId};
use tower_domain::name::Name;

use super::client::Reply;
use super::failure::Failure;
use super::logs::{Which, which};
use super::params::ParamArgs;
use super::{Context, schedules};
use crate::api::types::{CancelBody, CancelWord, HoldBody, HoldWord, Reason, TraceStarted};

/// What to order something of.
#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// A trace, or a task: then everything below it too; or a definition: then its schedule
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

/// What to run again, and from where.
#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    /// A trace that has ended, or the task of one to begin at
    #[arg(add = super::complete::traces())]
    id: String,
    /// The task to begin at; everything that follows from it runs again [default: the root]
    #[arg(long, value_name = "TASK")]
    from: Option<TaskId>,
    #[command(flatten)]
    params: ParamArgs,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
    /// The same key again is the same new trace
    #[arg(long)]
    key: Option<String>,
}

/// The name of a definition, if it is one: ids are in capitals, or have a prefix.
fn definition(args: &OrderArgs) -> Option<Name> {
    let is_id = args.id.starts_with(TaskId::PREFIX) || args.id.starts_with(TraceId::PREFIX);
    Name::new(&args.id).ok().filter(|_| !is_id)
}

async fn order(args: &OrderArgs, verb: &str, context: &Context) -> Result<Reply, Failure> {
    let client = context.client()?;
    let path = match which(&client, &args.id).await? {
        Which::Trace(id) => format!("/traces/{id}/{verb}"),
        Which::Task(id) => format!("/tasks/{id}/{verb}"),
    };
    client.json(Method::POST, &path, &[], &Reason { reason: args.reason.clone() }, None).await
}

pub(crate) async fn pause(args: OrderArgs, context: &Context) -> Result<(), Failure> {
    if let Some(definition) = definition(&args) {
        return schedules::order(&definition, &args.reason, "pause", context).await;
    }
    let reply = order(&args, "pause", context).await?;
    let held: HoldBody = reply.read()?;
    context.out.one(&reply, &args.id, |_| paused(&held));
    Ok(())
}

/// What came of a pause.
pub(crate) fn paused(held: &HoldBody) -> String {
    match held.outcome {
        HoldWord::Ordered => format!("paused: {} held, {} running were told and may go on to their end\n", held.changed, held.running),
        HoldWord::NothingToDo => "it was paused already\n".to_owned(),
        other => without_effect(other),
    }
}

pub(crate) async fn resume(args: OrderArgs, context: &Context) -> Result<(), Failure> {
    if let Some(definition) = definition(&args) {
        return schedules::order(&definition, &args.reason, "resume", context).await;
    }
    let reply = order(&args, "resume", context).await?;
    let body: HoldBody = reply.read()?;
    context.out.one(&reply, &args.id, |_| resumed(&body));
    Ok(())
}

/// What came of a resume.
pub(crate) fn resumed(body: &HoldBody) -> String {
    match body.outcome {
        HoldWord::Ordered => format!("resumed: {} queued again, {} running were told\n", body.changed, body.running),
        HoldWord::NothingToDo => "it was not paused\n".to_owned(),
        other => without_effect(other),
    }
}

fn without_effect(outcome: HoldWord) -> String {
    let text = if outcome == HoldWord::AlreadyCancelling { "it is being cancelled" } else { "it had ended already" };
    format!("{text}\n")
}

pub(crate) async fn cancel(args: OrderArgs, context: &Context) -> Result<(), Failure> {
    if let Some(definition) = definition(&args) {
        return schedules::order(&definition, &args.reason, "cancel", context).await;
    }
    let reply = order(&args, "cancel", context).await?;
    let body: CancelBody = reply.read()?;
    context.out.one(&reply, &args.id, |_| cancelled(&body));
    Ok(())
}

/// What came of a cancel.
pub(crate) fn cancelled(body: &CancelBody) -> String {
    match body.outcome {
        CancelWord::Ordered => format!("cancelling: {} ended at once, {} running were told\n", body.ended, body.running),
        CancelWord::AlreadyCancelling => "it was being cancelled already\n".to_owned(),
        CancelWord::AlreadyEnded => "it had ended already\n".to_owned(),
    }
}

pub(crate) async fn rerun(args: RerunArgs, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let path = match (which(&client, &args.id).await?, &args.from) {
        (Which::Trace(id), _) => format!("/traces/{id}/rerun"),
        (Which::Task(id), None) => format!("/tasks/{id}/rerun"),
        (Which::Task(_), Some(_)) => return Err(Failure::usage("--from: the rerun begins at the task that is given already")),
    };
    let body = json!({ "from": args.from, "params": args.params.read()?, "reason": args.reason });
    let reply = client.json(Method::POST, &path, &[], &body, args.key.as_deref()).await?;
    let started: TraceStarted = reply.read()?;
    context.out.one(&reply, &started.trace_id.to_string(), |_| format!("{}\n", started.trace_id));
    Ok(())
}

pub(crate) async fn retry(args: RetryArgs, context: &Context) -> Result<(), Failure> {
    let reply =
        context.client()?.json(Method::POST, &format!("/traces/{}/retry", args.trace), &[], &Reason { reason: args.reason }, args.key.as_deref()).await?;
    let started: TraceStarted = reply.read()?;
    context.out.one(&reply, &started.trace_id.to_string(), |_| format!("{}\n", started.trace_id));
    Ok(())
}
