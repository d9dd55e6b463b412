//! `tower bulk`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use reqwest::Method;
use tower_domain::name::Name;

use super::confirm::confirm;
use super::failure::Failure;
use super::output::{before_now, err_line};
use super::term::one_line;
use super::{Context, codes, complete};
use crate::api::types::{BulkAction, BulkFilter, BulkItem, BulkOrder, BulkOutcome, BulkResult, Status};
use crate::config::parse_duration;

/// What to order, and of which traces.
#[derive(Debug, Args)]
pub(crate) struct BulkArgs {
    /// What is ordered
    #[arg(value_enum)]
    action: Action,
    /// Of this definition
    #[arg(long, value_name = "ID", add = complete::definitions())]
    def: Option<Name>,
    /// Of this user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// In this status (repeatable)
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Vec<Status>,
    /// Begun in the last DURATION, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Begun longer ago than DURATION
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    until: Option<Duration>,
    /// Only say which they are
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
}

/// What can be ordered.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// That they end
    Cancel,
    /// That nothing of them begins
    Pause,
    /// That they go on
    Resume,
    /// That what did not succeed runs again, as a new trace for each
    Retry,
}

fn status(text: &str) -> Result<Status, String> {
    serde_json::from_value(serde_json::Value::String(text.to_ascii_uppercase()))
        .map_err(|_| "pending, running, success, failed, cancelled or skipped".to_owned())
}

pub(crate) async fn run(args: BulkArgs, context: &Context) -> Result<(), Failure> {
    if args.def.is_none() && args.user.is_none() && args.status.is_empty() && args.since.is_none() && args.until.is_none() {
        return Err(Failure::usage("which traces?").help("choose with --def, --user, --status, --since or --until"));
    }
    let (action, verb, participle) = match args.action {
        Action::Cancel => (BulkAction::Cancel, "cancel", "cancelled"),
        Action::Pause => (BulkAction::Pause, "pause", "paused"),
        Action::Resume => (BulkAction::Resume, "resume", "resumed"),
        Action::Retry => (BulkAction::Retry, "retry", "retried"),
    };
    let filter =
        BulkFilter { status: args.status, definition_id: args.def, user_id: args.user, since: args.since.map(before_now), until: args.until.map(before_now) };
    let wanted = BulkOrder { action, filter, dry_run: args.dry_run, reason: args.reason };
    let client = context.client()?;
    let path = "/bulk/traces";
    if !args.dry_run && !args.yes {
        let plan: BulkResult = client.json(Method::POST, path, &[], &BulkOrder { dry_run: true, ..wanted.clone() }, None).await?.read()?;
        if !plan.items.is_empty() {
            confirm(verb, participle, &format!("{} traces", plan.items.len()))?;
        }
    }
    let reply = client.json(Method::POST, path, &[], &wanted, None).await?;
    let result: BulkResult = reply.read()?;
    let ids: Vec<String> = result.items.iter().map(|item| item.new_trace_id.unwrap_or(item.trace_id).to_string()).collect();
    let rows: Vec<Vec<String>> = result.items.iter().map(row).collect();
    context.out.list(&reply, &["TRACE", "OUTCOME", "NEW TRACE", "ERROR"], &rows, &ids)?;
    if result.more {
        err_line("there are more: the same command again takes the next ones");
    }
    match result.items.iter().filter(|item| item.outcome == BulkOutcome::Failed).count() {
        0 => Ok(()),
        all if all == result.items.len() => Err(Failure::own(&codes::NOT_DONE, format!("none of them was {participle}"))),
        some => Err(Failure::own(&codes::PARTLY_DONE, format!("{some} of {} were not {participle}", result.items.len()))),
    }
}

fn row(item: &BulkItem) -> Vec<String> {
    let outcome = match item.outcome {
        BulkOutcome::Found => "(dry run)",
        BulkOutcome::Done => "done",
        BulkOutcome::NothingToDo => "nothing to do",
        BulkOutcome::Failed => "failed",
    };
    let error = item.error.as_ref().map_or_else(String::new, |error| format!("{} {}", error.code, one_line(&error.message)));
    vec![item.trace_id.to_string(), outcome.to_owned(), item.new_trace_id.map_or_else(String::new, |id| id.to_string()), error]
}
