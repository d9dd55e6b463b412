//! `tower push`.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use tower_domain::name::Name;

use super::Context;
use super::client::{Client, Reply};
use super::failure::Failure;
use super::inspect::size;
use super::project;
use crate::api::types::ModuleBody;

/// What to upload.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The component
    wasm: PathBuf,
    /// The module's name; default: the file's
    #[arg(long)]
    name: Option<Name>,
    /// The tag to move to it
    #[arg(long, default_value = tower_domain::code_ref::LATEST)]
    tag: Name,
}

pub(crate) async fn run(args: PushArgs, context: &Context) -> Result<(), Failure> {
    let name = args.name.map_or_else(|| project::name_of(&args.wasm), Ok)?;
    let (reply, module) = push(&context.client()?, &name, Some(&args.tag), project::read(&args.wasm)?).await?;
    context.out.one(&reply, &module.digest.to_string(), |_| {
        let news = if reply.status == 201 { "new" } else { "was there" };
        format!("{}:{}  {}  {}  {news}\n", module.name, args.tag, module.digest, size(module.size_bytes))
    });
    Ok(())
}

/// Uploads a component.
pub(crate) async fn push(client: &Client, name: &Name, tag: Option<&Name>, wasm: Bytes) -> Result<(Reply, ModuleBody), Failure> {
    let mut query = vec![("name", name.to_string())];
    query.extend(tag.map(|tag| ("tag", tag.to_string())));
    let reply = client.upload(&query, wasm).await?;
    let module = reply.read()?;
    Ok((reply, module))
}
