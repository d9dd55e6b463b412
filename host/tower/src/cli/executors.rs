//! `tower executors`.

use super::Context;
use super::failure::Failure;
use crate::api::types::List;
use crate::api::workers::ExecutorBody;

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let reply = context.client()?.get("/executors", &[]).await?;
    let executors: List<ExecutorBody> = reply.read()?;
    let ids: Vec<String> = executors.items.iter().map(|executor| executor.lane.to_string()).collect();
    let rows: Vec<Vec<String>> = executors.items.iter().map(row).collect();
    context.out.list(&reply, &["LANE", "RUNNING", "SLOTS", "READY", "WORKERS"], &rows, &ids)
}

fn row(executor: &ExecutorBody) -> Vec<String> {
    let workers = executor.workers.map_or_else(String::new, |workers| workers.to_string());
    vec![executor.lane.to_string(), executor.running.to_string(), executor.slots.to_string(), executor.ready.to_string(), workers]
}
