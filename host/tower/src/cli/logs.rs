//! `tower logs`.

use std::collections::HashSet;

use clap::Args;
use futures::StreamExt;
use tower_domain::id::{TaskId, TraceId};

use super::Context;
use super::client::{Client, Reply};
use super::failure::{Exit, Failure};
use super::output::Format;
use super::term::one_line;
use crate::api::types::{EventBody, EventType, List, LogBody, Status, TaskBody};

/// Lines that are read at a time.
const PAGE_LINES: u32 = 500;

/// Whose log.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A trace, or a task: then with everything below it
    #[arg(add = super::complete::traces())]
    id: String,
    /// Go on as lines come, until the trace or the task has ended
    #[arg(short = 'f', long)]
    follow: bool,
}

/// What an id is of.
pub(crate) enum Which {
    /// A trace.
    Trace(TraceId),
    /// A task.
    Task(TaskId),
}

/// Tells by the prefix; without one, asks the server.
pub(crate) async fn which(client: &Client, text: &str) -> Result<Which, Failure> {
    if text.starts_with(TaskId::PREFIX) {
        return text.parse().map(Which::Task).map_err(|error: tower_domain::id::BadId| Failure::usage(error.to_string()));
    }
    let trace: TraceId = text
        .parse()
        .map_err(|error: tower_domain::id::BadId| Failure::usage(error.to_string()).help("tower traces lists traces; tower tasks TRACE lists tasks"))?;
    if text.starts_with(TraceId::PREFIX) {
        return Ok(Which::Trace(trace));
    }
    match client.get(&format!("/traces/{trace}"), &[]).await {
        Ok(_) => Ok(Which::Trace(trace)),
        Err(failure) if failure.exit == Exit::NotFound => {
            let task = TaskId(trace.0);
            match client.get(&format!("/tasks/{task}"), &[]).await {
                Ok(_) => Ok(Which::Task(task)),
                Err(none) if none.exit == Exit::NotFound => Err(Failure::own(&super::codes::NO_SUCH_THING, format!("there is no trace and no task {trace}"))
                    .help("tower traces lists traces; tower tasks TRACE lists tasks")),
                Err(failure) => Err(failure),
            }
        }
        Err(failure) => Err(failure),
    }
}

pub(crate) async fn run(args: LogsArgs, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    match which(&client, &args.id).await? {
        Which::Trace(id) if args.follow => follow(&client, id, None, context).await,
        Which::Task(id) if args.follow => {
            let task: TaskBody = client.get(&format!("/tasks/{id}"), &[]).await?.read()?;
            follow(&client, task.trace_id, Some(id), context).await
        }
        Which::Trace(id) => print(&client, &format!("/traces/{id}/logs"), context).await,
        Which::Task(id) => print(&client, &format!("/tasks/{id}/logs"), context).await,
    }
}

/// All there are. As JSON they are one list, however many pages the server made of it.
async fn print(client: &Client, path: &str, context: &Context) -> Result<(), Failure> {
    let mut cursor = None;
    let mut whole = Vec::new();
    loop {
        let mut query = vec![("limit", PAGE_LINES.to_string())];
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let reply: Reply = client.get(path, &query).await?;
        let lines: List<LogBody> = reply.read()?;
        if context.out.format() == Format::Json {
            whole.extend(lines.items);
        } else {
            lines.items.iter().try_for_each(|line| show(context, line))?;
        }
        match lines.next_cursor {
            Some(next) => cursor = Some(next),
            None if context.out.format() == Format::Json => return context.out.made(&List::whole(whole), "", |_| String::new()),
            None => return Ok(()),
        }
    }
}

/// A trace's lines to its end; or those of a task and everything below it, to the task's end.
async fn follow(client: &Client, id: TraceId, subtree: Option<TaskId>, context: &Context) -> Result<(), Failure> {
    let mut events = client.follow(id, 0);
    // A task's first event follows its parent's, so that the subtree is known as it grows.
    let mut within: HashSet<TaskId> = subtree.into_iter().collect();
    while let Some(event) = events.next().await {
        let event = event?;
        if subtree.is_some() {
            if event.parent_id.is_some_and(|parent| within.contains(&parent)) {
                within.insert(event.task_id);
            }
            if !within.contains(&event.task_id) {
                continue;
            }
        }
        let over = subtree == Some(event.task_id) && event.to.is_some_and(Status::is_terminal);
        if let Some(line) = line_of(event) {
            show(context, &line)?;
        }
        if over {
            break;
        }
    }
    Ok(())
}

fn line_of(event: EventBody) -> Option<LogBody> {
    if event.event_type != EventType::Log {
        return None;
    }
    let payload: serde_json::Value = event.payload.as_ref()?.read().ok()?;
    let text = |field: &str| payload.get(field).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let fields = payload.get("fields").and_then(|fields| tower_domain::json::Json::of(fields).ok());
    let at = tower_domain::clock::Timestamp::from_micros(event.timestamp_ms.saturating_mul(1_000));
    Some(LogBody { seq: event.seq, task_id: event.task_id, stream: text("stream"), level: text("level"), message: text("message"), fields, at })
}

fn show(context: &Context, line: &LogBody) -> Result<(), Failure> {
    if context.out.format() == Format::Id {
        context.out.line(&line.seq.to_string());
        return Ok(());
    }
    if context.out.is_json() {
        context.out.line(&serde_json::to_string(line).map_err(|error| Failure::usage(error.to_string()))?);
        return Ok(());
    }
    let term = &context.out.term;
    let fields = line.fields.as_ref().map_or_else(String::new, |fields| format!("  {}", one_line(fields.as_str())));
    let head = term.faint(&format!("{} {}", line.at.to_chrono().format("%H:%M:%S%.3f"), line.task_id));
    context.out.line(&format!("{head} {:<5} {}{fields}", line.level, one_line(&line.message)));
    Ok(())
}
