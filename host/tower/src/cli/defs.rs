//! `tower defs`.

use clap::Subcommand;
use serde_json::Value;
use tower_domain::name::Name;

use super::Context;
use super::failure::Failure;
use super::output::PageArgs;
use super::term::one_line;
use crate::api::types::List;

/// Definitions.
#[derive(Debug, Subcommand)]
pub(crate) enum DefsVerb {
    /// List them
    Ls(PageArgs),
    /// Show one
    Get {
        /// Its id
        #[arg(add = super::complete::definitions())]
        id: Name,
        /// With so many of its next firings, 0 to 100
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
        next: Option<u32>,
    },
}

pub(crate) async fn run(verb: DefsVerb, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    match verb {
        DefsVerb::Ls(page) => {
            let reply = client.get("/definitions", &page.query()).await?;
            let definitions: List<Value> = reply.read()?;
            let ids: Vec<String> = definitions.items.iter().map(|definition| text(definition, "id")).collect();
            let columns = ["id", "version", "actor_type", "code_ref", "is_active", "schedule_status", "next_at", "description"];
            let rows: Vec<Vec<String>> = definitions.items.iter().map(|definition| columns.iter().map(|column| text(definition, column)).collect()).collect();
            context.out.list(&reply, &["ID", "VERSION", "ACTOR", "CODE", "ACTIVE", "SCHEDULE", "NEXT", "DESCRIPTION"], &rows, &ids)
        }
        DefsVerb::Get { id, next } => {
            let query: Vec<(&str, String)> = next.map(|next| ("next", next.to_string())).into_iter().collect();
            let reply = client.get(&format!("/definitions/{id}"), &query).await?;
            let definition: Value = reply.read()?;
            context.out.one(&reply, id.as_str(), |_| serde_json::to_string_pretty(&definition).unwrap_or_default() + "\n");
            Ok(())
        }
    }
}

fn text(definition: &Value, field: &str) -> String {
    match definition.get(field) {
        Some(Value::String(text)) => one_line(text),
        None | Some(Value::Null) => String::new(),
        Some(value) => value.to_string(),
    }
}
