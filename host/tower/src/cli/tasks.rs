//! `tower tasks` and `tower task`.

use clap::Args;
use tower_domain::clock::{Clock, SystemClock};
use tower_domain::id::{TaskId, TraceId};

use super::client::Client;
use super::failure::Failure;
use super::output::{PageArgs, ago, fields};
use super::run::pretty;
use super::term::{Term, one_line, seconds};
use super::{Context, codes, complete};
use crate::api::types::{ControlAction, ControlEventBody, List, Status, TaskBody, WaitKind};

/// Which tasks.
#[derive(Debug, Args)]
pub(crate) struct TasksArgs {
    /// The trace
    #[arg(add = complete::traces())]
    trace: TraceId,
    /// In one of these states
    #[arg(long, value_delimiter = ',')]
    status: Vec<String>,
    /// In one of these phases
    #[arg(long, value_delimiter = ',')]
    phase: Vec<String>,
    /// With this many agents above
    #[arg(long)]
    layer: Option<u32>,
    /// Children of this task
    #[arg(long, value_name = "TASK", add = complete::tasks())]
    parent: Option<TaskId>,
    #[command(flatten)]
    page: PageArgs,
}

/// Which task.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// The task
    #[arg(add = complete::tasks())]
    task: TaskId,
}

pub(crate) async fn list(args: TasksArgs, context: &Context) -> Result<(), Failure> {
    let mut query = args.page.query();
    query.extend(args.status.iter().map(|status| ("status", status.clone())));
    query.extend(args.phase.iter().map(|phase| ("phase", phase.clone())));
    query.extend(args.layer.map(|layer| ("layer", layer.to_string())));
    query.extend(args.parent.map(|parent| ("parent_id", parent.to_string())));
    let client = context.client()?;
    let reply = client.get(&format!("/traces/{}/tasks", args.trace), &query).await?;
    let tasks: List<TaskBody> = reply.read()?;
    if let (Some(parent), true) = (args.parent, tasks.items.is_empty()) {
        let parent: TaskBody = client.get(&format!("/tasks/{parent}"), &[]).await?.read()?;
        if parent.trace_id != args.trace {
            return Err(Failure::own(&codes::NO_SUCH_THING, format!("the task {} is of another trace: {}", parent.id, parent.trace_id)));
        }
    }
    let ids: Vec<String> = tasks.items.iter().map(|task| task.id.to_string()).collect();
    let rows: Vec<_> = tasks.items.iter().map(|task| row(&context.out.term, task)).collect();
    context.out.list(&reply, &["STATE", "PHASE", "TASK", "KEY", "ACTOR", "LAYER", "TIME", "ERROR"], &rows, &ids)
}

fn time(task: &TaskBody) -> String {
    task.started_at.map_or_else(String::new, |from| seconds(task.finished_at.unwrap_or_else(|| SystemClock.now()).since(from)))
}

/// Its error on one line.
pub(crate) fn error(task: &TaskBody) -> String {
    task.error_code.as_ref().map_or_else(String::new, |code| format!("{code} {}", one_line(task.error_msg.as_deref().unwrap_or_default())))
}

fn row(term: &Term, task: &TaskBody) -> Vec<String> {
    vec![
        format!("{} {}", term.glyph(task.status), task.status),
        task.phase.to_string(),
        task.id.to_string(),
        format!("{}{}", "  ".repeat(task.depth.min(8) as usize), task.key),
        task.actor_type.to_string(),
        task.layer.to_string(),
        time(task),
        error(task),
    ]
}

pub(crate) async fn show(args: TaskArgs, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let reply = client.get(&format!("/tasks/{}", args.task), &[]).await?;
    let task: TaskBody = reply.read()?;
    let cancelled = if task.cancelling || task.status == Status::Cancelled { cancelled_by(&client, &task).await? } else { String::new() };
    context.out.one(&reply, &task.id.to_string(), |term| describe(term, &task, cancelled));
    Ok(())
}

/// Who cancelled it, or the tree above it, and why.
async fn cancelled_by(client: &Client, task: &TaskBody) -> Result<String, Failure> {
    let orders: List<ControlEventBody> = client.get(&format!("/traces/{}/control-events", task.trace_id), &[]).await?.read()?;
    let above = |id: TaskId| task.node_path.split('/').any(|part| part == id.to_string());
    let order = orders.items.iter().find(|order| order.action == ControlAction::Cancel && order.task_id.is_none_or(above));
    Ok(order.map_or_else(String::new, |order| {
        let why = if order.reason.is_empty() { String::new() } else { format!(": {}", one_line(&order.reason)) };
        format!("{} by {}{why}", ago(order.created_at), one_line(&order.triggered_by))
    }))
}

/// What it waits for, a line a kind.
fn waits_for(task: &TaskBody) -> String {
    let siblings = task.waiting_on.iter().filter(|wait| wait.kind == WaitKind::Dependency);
    let named = siblings.clone().filter_map(|wait| wait.reference.clone());
    let counted = siblings.filter(|wait| wait.reference.is_none()).filter_map(|wait| wait.open).map(|open| format!("{open} more"));
    let siblings: Vec<String> = named.chain(counted).collect();
    let others = task.waiting_on.iter().filter(|wait| wait.kind != WaitKind::Dependency).map(|wait| {
        let open = wait.open.map_or_else(String::new, |open| format!("{open} "));
        let until = wait.until.map_or_else(String::new, |until| format!(", until {until}"));
        let kind = serde_json::to_value(wait.kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
        format!("{open}{kind}{until}, since {}", ago(wait.since))
    });
    (!siblings.is_empty()).then(|| format!("siblings {}", siblings.join(", "))).into_iter().chain(others).collect::<Vec<_>>().join("\n")
}

fn describe(term: &Term, task: &TaskBody, cancelled: String) -> String {
    let attempts = task.attempts.iter().flatten().map(|attempt| {
        let error = attempt.error.as_ref().map_or_else(String::new, |error| format!("  {} {}", error.code, one_line(&error.message)));
        format!("{} {} {}  {}{error}", attempt.leg, attempt.attempt, attempt.result, seconds(attempt.finished_at.since(attempt.started_at)))
    });
    fields(
        term,
        &[
            ("task", task.id.to_string()),
            ("trace", task.trace_id.to_string()),
            ("key", task.key.to_string()),
            ("definition", format!("{} version {}", task.job_id, task.definition_version)),
            ("actor", task.actor_type.to_string()),
            ("state", format!("{} {} {}", term.glyph(task.status), task.status, task.phase)),
            ("waits for", waits_for(task)),
            (
                "progress",
                if task.progress > 0 {
                    format!("{} {}%  {}", term.bar(task.progress, 10), task.progress, one_line(&task.progress_message))
                } else {
                    String::new()
                },
            ),
            ("children", if task.split_count > 0 { format!("{} of {} succeeded", task.succeeded_children, task.split_count) } else { String::new() }),
            ("time", time(task)),
            ("error", error(task)),
            ("cancelled", cancelled),
            ("attempts", attempts.collect::<Vec<_>>().join("\n")),
            ("params", pretty(&task.input_params)),
            ("output", task.output.as_ref().map(pretty).or_else(|| task.output_ref.clone()).unwrap_or_default()),
        ],
    )
}
