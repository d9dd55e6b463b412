//! `tower dlq`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use tower_domain::id::TaskId;
use tower_domain::name::Name;

use super::complete;
use super::confirm::confirm;
use super::failure::Failure;
use super::output::{PageArgs, ago, before_now, err_line};
use super::params::ParamArgs;
use super::tasks::{self, TaskArgs};
use super::term::one_line;
use super::{Context, codes};
use crate::api::types::{DeadLetterFilter, DeadLetterGroup, List, RetriedDeadLetters, RetriedTrace, RetryDeadLetters, TaskBody};
use crate::config::parse_duration;

/// Dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List them, newest first, or count them
    Ls(LsArgs),
    /// Show one, with every attempt's error
    Show(TaskArgs),
    /// Retry their traces: each as a new trace that takes over what succeeded
    Replay(ReplayArgs),
}

/// What dead letters have in common.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Of this definition
    #[arg(long, value_name = "ID", add = complete::definitions())]
    def: Option<Name>,
    /// That failed with this code
    #[arg(long, value_name = "CODE", add = complete::codes())]
    error: Option<String>,
    /// That failed in the last DURATION, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// The same in one text, such as 'def=research error=GUEST_TIMEOUT since=24h'
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// Which to list.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Count them by what they have in common
    #[arg(long, value_name = "WHAT")]
    group: Option<Group>,
    /// Those whose trace has been retried since, too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: PageArgs,
}

/// What dead letters are counted by.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Group {
    /// The code that they failed with.
    Error,
    /// Their definition.
    Definition,
}

/// Which to retry.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Dead letters by their ids
    #[arg(conflicts_with_all = ["def", "error", "since", "filter"], add = complete::tasks())]
    tasks: Vec<TaskId>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    params: ParamArgs,
    /// Only say what would be retried
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Why, for the audit
    #[arg(long, default_value = "")]
    reason: String,
    /// The same key again retries no trace twice
    #[arg(long)]
    key: Option<String>,
}

impl FilterArgs {
    fn read(&self) -> Result<DeadLetterFilter, Failure> {
        let mut filter = self.clone();
        for pair in self.filter.iter().flat_map(|text| text.split_whitespace()) {
            let wrong = |why: &str| Failure::usage(format!("--filter {pair}: {why}")).help("such as: --filter 'def=research error=GUEST_TIMEOUT since=24h'");
            let twice = |given: bool| if given { Err(wrong("this is given twice")) } else { Ok(()) };
            match pair.split_once('=') {
                Some(("def", id)) => {
                    twice(filter.def.is_some())?;
                    filter.def = Some(Name::new(id).map_err(|error| wrong(&error.to_string()))?);
                }
                Some(("error", code)) => {
                    twice(filter.error.is_some())?;
                    filter.error = Some(code.to_owned());
                }
                Some(("since", text)) => {
                    twice(filter.since.is_some())?;
                    filter.since = Some(parse_duration(text).map_err(|why| wrong(&why))?);
                }
                _ => return Err(wrong("def=, error= and since= are known")),
            }
        }
        Ok(DeadLetterFilter { definition_id: filter.def, error_code: filter.error, since: filter.since.map(before_now) })
    }

    fn is_empty(&self) -> bool {
        self.def.is_none() && self.error.is_none() && self.since.is_none() && self.filter.is_none()
    }
}

pub(crate) async fn run(verb: DlqVerb, context: &Context) -> Result<(), Failure> {
    match verb {
        DlqVerb::Ls(args) => list(args, context).await,
        DlqVerb::Show(args) => tasks::show(args, context).await,
        DlqVerb::Replay(args) => replay(args, context).await,
    }
}

async fn list(args: LsArgs, context: &Context) -> Result<(), Failure> {
    let DeadLetterFilter { definition_id, error_code, since } = args.filter.read()?;
    let mut query = args.page.query();
    query.push(("open", (!args.all).to_string()));
    query.extend(definition_id.as_ref().map(|id| ("definition_id", id.to_string())));
    query.extend(error_code.map(|code| ("error_code", code)));
    query.extend(since.map(|since| ("since", since.to_string())));
    let client = context.client()?;
    if let Some(group) = args.group {
        query.push(("group_by", if matches!(group, Group::Error) { "error" } else { "definition" }.to_owned()));
        let reply = client.get("/dead-letters", &query).await?;
        let groups: List<DeadLetterGroup> = reply.read()?;
        let ids: Vec<String> = groups.items.iter().map(|group| group.group.clone()).collect();
        let rows: Vec<_> = groups.items.iter().map(group_row).collect();
        return context.out.list(&reply, &["GROUP", "TASKS", "TRACES", "NEWEST", "TASK", "MESSAGE"], &rows, &ids);
    }
    let reply = client.get("/dead-letters", &query).await?;
    let letters: List<TaskBody> = reply.read()?;
    if let (Some(definition), true) = (&definition_id, letters.items.is_empty()) {
        client.get(&format!("/definitions/{definition}"), &[]).await?;
    }
    let ids: Vec<String> = letters.items.iter().map(|task| task.id.to_string()).collect();
    let rows: Vec<_> = letters.items.iter().map(row).collect();
    context.out.list(&reply, &["TASK", "TRACE", "KEY", "DEFINITION", "ATTEMPTS", "ENDED", "ERROR"], &rows, &ids)
}

fn group_row(group: &DeadLetterGroup) -> Vec<String> {
    let DeadLetterGroup { group, dead_letters, traces, newest_task_id, newest_at, newest_message } = group;
    vec![one_line(group), dead_letters.to_string(), traces.to_string(), ago(*newest_at), newest_task_id.to_string(), one_line(newest_message)]
}

fn row(task: &TaskBody) -> Vec<String> {
    vec![
        task.id.to_string(),
        task.trace_id.to_string(),
        task.key.to_string(),
        task.job_id.to_string(),
        task.attempt.to_string(),
        task.finished_at.map(ago).unwrap_or_default(),
        tasks::error(task),
    ]
}

async fn replay(args: ReplayArgs, context: &Context) -> Result<(), Failure> {
    if args.tasks.is_empty() && args.filter.is_empty() {
        return Err(Failure::usage("which dead letters?").help("name their ids, or choose with --def, --error, --since or --filter"));
    }
    let params = if args.params.is_empty() { None } else { Some(args.params.read()?) };
    if params.is_some() && args.tasks.len() != 1 {
        return Err(
            Failure::usage("-p: other params are for one dead letter, by its id").help("replay them one by one, each with its -p; or all of them without")
        );
    }
    let client = context.client()?;
    let by_filter = args.tasks.is_empty();
    let filter = if by_filter { Some(args.filter.read()?) } else { None };
    let wanted = RetryDeadLetters { task_ids: args.tasks.clone(), filter, params, dry_run: args.dry_run, reason: args.reason.clone() };
    if by_filter && !args.dry_run && !args.yes {
        let plan: RetriedDeadLetters =
            client.json(Method::POST, "/dead-letters/retry", &[], &RetryDeadLetters { dry_run: true, ..wanted.clone() }, None).await?.read()?;
        if !plan.items.is_empty() {
            confirm("retry", "retried", &format!("{} dead letters of {} traces", plan.dead_letters, plan.items.len()))?;
        }
    }
    let reply = client.json(Method::POST, "/dead-letters/retry", &[], &wanted, args.key.as_deref()).await?;
    let retried: RetriedDeadLetters = reply.read()?;
    let ids: Vec<String> = retried.items.iter().map(|item| item.trace_id.unwrap_or(item.rerun_of).to_string()).collect();
    let rows: Vec<_> = retried.items.iter().map(|item| retried_row(item, args.dry_run)).collect();
    context.out.list(&reply, &["TRACE", "DEAD LETTERS", "NEW TRACE", "ERROR"], &rows, &ids)?;
    if retried.more {
        err_line("there are more: the same command again takes the next ones");
    }
    match retried.items.iter().filter(|item| item.error.is_some()).count() {
        0 => Ok(()),
        all if all == retried.items.len() => Err(Failure::own(&codes::NOT_DONE, "none of them was retried")),
        some => Err(Failure::own(&codes::PARTLY_DONE, format!("{some} of {} were not retried", retried.items.len()))),
    }
}

fn retried_row(item: &RetriedTrace, dry_run: bool) -> Vec<String> {
    let new = item.trace_id.map_or_else(|| if dry_run { "(dry run)".to_owned() } else { String::new() }, |id| id.to_string());
    let error = item.error.as_ref().map_or_else(String::new, |error| format!("{} {}", error.code, one_line(&error.message)));
    vec![item.rerun_of.to_string(), item.task_ids.len().to_string(), new, error]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;
    use serde_json::json;

    #[test]
    fn one_text_says_what_the_flags_say() {
        let read = |text: &str| FilterArgs { filter: Some(text.to_owned()), ..FilterArgs::default() }.read();
        let filter = read("def=research error=GUEST_TIMEOUT since=24h").unwrap();
        assert_eq!(filter.definition_id.unwrap().as_str(), "research");
        assert_eq!(filter.error_code.unwrap(), "GUEST_TIMEOUT");
        assert!(filter.since.is_some());
        for bad in ["status=failed", "def", "def=Not A Name", "since=soon", "def=a def=b"] {
            assert_eq!(read(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn a_request_says_only_what_was_asked_for() {
        let wanted = RetryDeadLetters { filter: Some(DeadLetterFilter::default()), ..RetryDeadLetters::default() };
        assert_eq!(json!(wanted), json!({ "filter": { "definition_id": null, "error_code": null, "since": null }, "dry_run": false, "reason": "" }));
    }
}
