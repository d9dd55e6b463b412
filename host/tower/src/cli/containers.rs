//! `tower containers`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;
use tower_domain::name::Name;

use super::Context;
use super::failure::Failure;
use super::output::fields;
use crate::api::types::{ContainerListBody, ContainerRowBody, WarmedBody};

/// Containers.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ContainersArgs {
    #[command(subcommand)]
    verb: Option<ContainersVerb>,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
enum ContainersVerb {
    /// List them
    Ls,
    /// Take one away; a step that runs in it is tried again in another
    Rm {
        /// The container
        name: Name,
    },
    /// Fetch a definition's image, and have containers of it stand ready
    Warm {
        /// The definition
        definition: Name,
        /// How many, of a SERVICE that is EPHEMERAL
        #[arg(long, default_value_t = 1)]
        count: u32,
    },
}

pub(crate) async fn run(args: ContainersArgs, context: &Context) -> Result<(), Failure> {
    match args.verb {
        None | Some(ContainersVerb::Ls) => list(context).await,
        Some(ContainersVerb::Rm { name }) => remove(&name, context).await,
        Some(ContainersVerb::Warm { definition, count }) => warm(&definition, count, context).await,
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let reply = context.client()?.get("/containers", &[]).await?;
    let containers: ContainerListBody = reply.read()?;
    let ids: Vec<String> = containers.items.iter().map(|container| container.name.clone()).collect();
    let rows: Vec<Vec<String>> = containers.items.iter().map(row).collect();
    context.out.list(&reply, &["CONTAINER", "DEFINITION", "MODE", "STATE", "TASK", "IMAGE"], &rows, &ids)
}

fn row(container: &ContainerRowBody) -> Vec<String> {
    let state = if container.idle { "idle".to_owned() } else { container.state.clone() };
    let task = container.task_id.clone().unwrap_or_default();
    vec![container.name.clone(), container.definition.clone(), container.container_mode.clone(), state, task, container.image.clone()]
}

async fn remove(name: &Name, context: &Context) -> Result<(), Failure> {
    context.client()?.delete(&format!("/containers/{name}")).await?;
    context.out.line(&format!("{name} is gone"));
    Ok(())
}

async fn warm(definition: &Name, count: u32, context: &Context) -> Result<(), Failure> {
    let body = json!({ "definition_id": definition, "count": count });
    let reply = context.client()?.json(Method::POST, "/containers/warm", &[], &body, None).await?;
    let warmed: WarmedBody = reply.read()?;
    context.out.one(&reply, definition.as_str(), |term| fields(term, &[("definition", warmed.definition.clone()), ("ready", warmed.ready.to_string())]));
    Ok(())
}
