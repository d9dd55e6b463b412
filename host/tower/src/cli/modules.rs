//! `tower modules`.

use clap::Subcommand;
use reqwest::Method;
use tower_domain::code_ref::Digest;
use tower_domain::name::Name;

use super::Context;
use super::failure::Failure;
use super::inspect::{describe, module_path};
use super::output::{PageArgs, ago};
use super::term::table;
use crate::api::types::{List, ModuleBody, MoveTag, NamedModules, TagBody};

/// Uploaded components.
#[derive(Debug, Subcommand)]
pub(crate) enum ModulesVerb {
    /// List every tag
    Ls(PageArgs),
    /// Show what is under a name
    Show {
        /// The module's name
        #[arg(add = super::complete::modules())]
        name: Name,
    },
    /// Print a module's world as WIT text
    Wit {
        /// NAME[:TAG] or NAME@sha256:…
        #[arg(add = super::complete::tags())]
        module: String,
    },
    /// Move a tag
    Tag {
        /// The module's name
        #[arg(add = super::complete::modules())]
        name: Name,
        /// The tag
        tag: Name,
        /// Where it is to point
        digest: Digest,
    },
}

pub(crate) async fn run(verb: ModulesVerb, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    match verb {
        ModulesVerb::Ls(page) => {
            let reply = client.get("/modules", &page.query()).await?;
            let tags: List<TagBody> = reply.read()?;
            let ids: Vec<String> = tags.items.iter().map(|tag| format!("{}:{}", tag.name, tag.tag)).collect();
            let rows: Vec<_> = tags.items.iter().map(row).collect();
            context.out.list(&reply, &["NAME", "TAG", "DIGEST", "MOVED"], &rows, &ids)?;
        }
        ModulesVerb::Show { name } => {
            let reply = client.get(&format!("/modules/{name}"), &[]).await?;
            let named: NamedModules = reply.read()?;
            context.out.one(&reply, name.as_str(), |term| {
                let rows: Vec<_> = named.tags.iter().map(|tag| vec![tag.tag.to_string(), ago(tag.updated_at), tag.digest.to_string()]).collect();
                let tags = table(term, &["TAG", "MOVED", "DIGEST"], &rows);
                let modules: String = named.modules.iter().map(|module| format!("\n{}", describe(term, module))).collect();
                tags + &modules
            });
        }
        ModulesVerb::Wit { module } => {
            let reply = client.get(&format!("{}/wit", module_path(&module)?), &[]).await?;
            context.out.text(&String::from_utf8_lossy(&reply.body));
        }
        ModulesVerb::Tag { name, tag, digest } => {
            let reply = client.json(Method::PUT, &format!("/modules/{name}/tags/{tag}"), &[], &MoveTag { digest }, None).await?;
            let module: ModuleBody = reply.read()?;
            context.out.one(&reply, &module.digest.to_string(), |_| format!("{name}:{tag}  {}\n", module.digest));
        }
    }
    Ok(())
}

fn row(tag: &TagBody) -> Vec<String> {
    vec![tag.name.to_string(), tag.tag.to_string(), tag.digest.to_string().chars().take(19).collect(), ago(tag.updated_at)]
}
