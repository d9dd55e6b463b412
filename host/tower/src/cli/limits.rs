//! `tower limits`.

use clap::Args;

use super::Context;
use super::failure::Failure;
use super::output::PageArgs;
use super::schedules::moment;
use crate::api::types::{LimitBody, List};

/// Limits in use.
#[derive(Debug, Args)]
pub(crate) struct LimitsArgs {
    #[command(flatten)]
    page: PageArgs,
}

pub(crate) async fn run(args: LimitsArgs, context: &Context) -> Result<(), Failure> {
    let reply = context.client()?.get("/limits", &args.page.query()).await?;
    let limits: List<LimitBody> = reply.read()?;
    let ids: Vec<String> = limits.items.iter().map(|used| used.limit.to_string()).collect();
    let rows: Vec<Vec<String>> = limits.items.iter().map(row).collect();
    context.out.list(&reply, &["LIMIT", "MAX", "RUNNING", "WAITING", "NEXT"], &rows, &ids)
}

fn row(used: &LimitBody) -> Vec<String> {
    let max = match (used.max_concurrent, used.rate_limit) {
        (Some(max), _) => max.to_string(),
        (None, Some(rate)) => format!("{} per {}s", rate.max, rate.per_sec),
        (None, None) => "none".to_owned(),
    };
    let next = used.opens_at.map_or_else(String::new, moment);
    vec![used.limit.to_string(), max, used.running.to_string(), used.waiting.to_string(), next]
}
