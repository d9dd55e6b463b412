//! `tower hosts`.

use clap::{Args, Subcommand};
use tower_domain::name::Name;

use super::Context;
use super::failure::Failure;
use super::output::{ago, fields};
use crate::api::types::{HostBody, List};

/// Hosts.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HostsArgs {
    #[command(subcommand)]
    verb: Option<HostsVerb>,
}

/// What to do with them.
#[derive(Debug, Subcommand)]
enum HostsVerb {
    /// List them
    Ls,
    /// Have one take no more work; what runs on it goes on
    Drain {
        /// The host
        id: Name,
    },
    /// Have one take work again
    Resume {
        /// The host
        id: Name,
    },
}

pub(crate) async fn run(args: HostsArgs, context: &Context) -> Result<(), Failure> {
    match args.verb {
        None | Some(HostsVerb::Ls) => list(context).await,
        Some(HostsVerb::Drain { id }) => order(&id, "drain", context).await,
        Some(HostsVerb::Resume { id }) => order(&id, "resume", context).await,
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let reply = context.client()?.get("/hosts", &[]).await?;
    let hosts: List<HostBody> = reply.read()?;
    let ids: Vec<String> = hosts.items.iter().map(|host| host.id.clone()).collect();
    let rows: Vec<Vec<String>> = hosts.items.iter().map(row).collect();
    context.out.list(&reply, &["HOST", "STATE", "RUNNING", "SLOTS", "VERSION", "UP SINCE", "SEEN"], &rows, &ids)
}

fn row(host: &HostBody) -> Vec<String> {
    let id = if host.this { format!("{} (this one)", host.id) } else { host.id.clone() };
    vec![id, state(host).to_owned(), host.running.to_string(), host.slots.to_string(), host.version.clone(), ago(host.started_at), ago(host.seen_at)]
}

fn state(host: &HostBody) -> &'static str {
    match (host.left_at, host.alive, host.draining) {
        (Some(_), ..) => "stopped",
        (None, false, _) => "lost",
        (None, true, true) => "draining",
        (None, true, false) => "up",
    }
}

async fn order(id: &Name, word: &str, context: &Context) -> Result<(), Failure> {
    let reply = context.client()?.post(&format!("/hosts/{id}/{word}")).await?;
    let host: HostBody = reply.read()?;
    context.out.one(&reply, id.as_str(), |term| fields(term, &[("host", host.id.clone()), ("state", state(&host).to_owned())]));
    Ok(())
}
