//! `tower dlq`.

use clap::Subcommand;

use super::Context;
use super::failure::Failure;
use super::output::{PageArgs, ago};
use super::term::one_line;
use crate::api::types::{List, TaskBody};

/// Dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// List them, newest first
    Ls {
        /// Those whose trace has been retried since, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        page: PageArgs,
    },
}

pub(crate) async fn run(verb: DlqVerb, context: &Context) -> Result<(), Failure> {
    let DlqVerb::Ls { all, page } = verb;
    let mut query = page.query();
    query.push(("open", (!all).to_string()));
    let reply = context.client()?.get("/dead-letters", &query).await?;
    let tasks: List<TaskBody> = reply.read()?;
    let ids: Vec<String> = tasks.items.iter().map(|task| task.id.to_string()).collect();
    let rows: Vec<_> = tasks.items.iter().map(row).collect();
    context.out.list(&reply, &["TASK", "TRACE", "KEY", "DEFINITION", "ATTEMPTS", "ENDED", "ERROR"], &rows, &ids)
}

fn row(task: &TaskBody) -> Vec<String> {
    let error = task.error_code.as_ref().map_or_else(String::new, |code| format!("{code} {}", one_line(task.error_msg.as_deref().unwrap_or_default())));
    vec![
        task.id.to_string(),
        task.trace_id.to_string(),
        task.key.to_string(),
        task.job_id.to_string(),
        task.attempt.to_string(),
        task.finished_at.map(ago).unwrap_or_default(),
        error,
    ]
}
