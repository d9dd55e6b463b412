//! `tower apply`.

use std::path::PathBuf;

use clap::Args;
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value};
use tower_domain::json::Json;
use tower_domain::name::Name;

use super::Context;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::project::{Project, spec_of};
use super::push::push;
use crate::api::problem::codes;
use crate::api::types::ModuleBody;

/// What to apply.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The file, the folder that it is in, or example:NAME
    #[arg(short = 'f', long = "file", default_value = "tower.toml")]
    file: String,
    /// Only say what would change
    #[arg(long)]
    plan: bool,
}

/// What became, or would become, of one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Change {
    kind: &'static str,
    name: Name,
    action: &'static str,
    /// What differs.
    what: String,
}

impl Change {
    /// As people read it.
    pub(crate) fn line(&self) -> String {
        format!("{:<10}  {:<11} {}  {}", self.action, self.kind, self.name, self.what).trim_end().to_owned()
    }
}

pub(crate) async fn run(args: ApplyArgs, context: &Context) -> Result<(), Failure> {
    let project = if args.file.starts_with("example:") { Project::named(&args.file)? } else { Project::folder(&PathBuf::from(&args.file))? };
    let client = context.client()?;
    let changes = if args.plan { plan(&client, &project).await? } else { apply(&client, &project).await? };
    let ids: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    context.out.made(&changes, &ids.join("\n"), |_| changes.iter().map(|change| format!("{}\n", change.line())).collect())?;
    match changes.iter().filter(|change| change.action == LEFT_OUT).map(|change| change.name.as_str()).collect::<Vec<_>>().as_slice() {
        [] => Ok(()),
        left_out => Err(Failure::own(&super::codes::LEFT_OUT, format!("left out for a workspace that the server does not mount: {}", left_out.join(", ")))
            .help("start the server with tower serve --mount NAME=DIR, and apply again")),
    }
}

/// What became of a definition whose workspace is not there: others may be used without it.
const LEFT_OUT: &str = "left out";

/// What would change.
async fn plan(client: &Client, project: &Project) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for (name, wasm) in &project.modules {
        let digest = tower_executors::wasm::digest(wasm);
        let there: Option<ModuleBody> = client.find(&format!("/modules/{name}/tags/latest")).await?;
        let action = match &there {
            None => "create",
            Some(module) if module.digest == digest => "keep",
            Some(_) => "update",
        };
        changes.push(Change { kind: "module", name: name.clone(), action, what: digest.to_string() });
    }
    for (id, spec) in &project.definitions {
        let there: Option<Map<String, Value>> = client.find(&format!("/definitions/{id}")).await?;
        let wanted = whole(id, spec)?;
        let (action, what) = match there {
            None => ("create", String::new()),
            Some(there) => match differing(&wanted, &there) {
                what if what.is_empty() => ("keep", what),
                what => ("update", what),
            },
        };
        changes.push(Change { kind: "definition", name: id.clone(), action, what });
    }
    Ok(changes)
}

/// Uploads and puts everything, and says what changed.
pub(crate) async fn apply(client: &Client, project: &Project) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for (name, wasm) in &project.modules {
        let before: Option<ModuleBody> = client.find(&format!("/modules/{name}/tags/latest")).await?;
        let (_, module) = push(client, name, None, wasm.clone()).await?;
        let action = match &before {
            None => "created",
            Some(before) if before.digest == module.digest => "unchanged",
            Some(_) => "updated",
        };
        changes.push(Change { kind: "module", name: name.clone(), action, what: module.digest.to_string() });
    }
    for (id, spec) in &project.definitions {
        let before: Option<Map<String, Value>> = client.find(&format!("/definitions/{id}")).await?;
        let path = format!("/definitions/{id}");
        let reply = match client.json(Method::PUT, &path, &[], spec, None).await {
            Err(failure) if is_workspace(&failure) => {
                changes.push(Change { kind: "definition", name: id.clone(), action: LEFT_OUT, what: "its workspace is not mounted on the server".to_owned() });
                continue;
            }
            answered => answered.map_err(|failure| failure.about(&format!("definition `{id}`")))?,
        };
        let after: Map<String, Value> = reply.read()?;
        let version = |map: &Map<String, Value>| map.get("version").and_then(Value::as_u64).unwrap_or(0);
        let action = match &before {
            None => "created",
            Some(before) if version(before) == version(&after) => "unchanged",
            Some(_) => "updated",
        };
        let what = before.as_ref().map(|before| differing(&after, before)).unwrap_or_default();
        changes.push(Change { kind: "definition", name: id.clone(), action, what: format!("version {}  {what}", version(&after)).trim_end().to_owned() });
    }
    Ok(changes)
}

fn is_workspace(failure: &Failure) -> bool {
    failure.exit == Exit::Usage && matches!(&failure.said, Some(super::failure::Said::Problem(problem)) if problem.code == codes::WORKSPACE_UNKNOWN.name)
}

/// A definition with its defaults, as the server would answer it.
fn whole(id: &Name, spec: &Json) -> Result<Map<String, Value>, Failure> {
    match serde_json::to_value(spec_of(id, spec)?) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Failure::usage(format!("definition `{id}` cannot be written as JSON"))),
    }
}

/// The fields that differ, leaving out what the tower sets.
fn differing(wanted: &Map<String, Value>, there: &Map<String, Value>) -> String {
    let own = |key: &str| matches!(key, "id" | "version" | "created_at" | "updated_at" | "schedule_status" | "next_at");
    let mut keys: Vec<&str> = wanted.iter().filter(|(key, value)| !own(key) && there.get(*key) != Some(value)).map(|(key, _)| key.as_str()).collect();
    keys.extend(there.keys().map(String::as_str).filter(|key| !own(key) && !wanted.contains_key(*key)));
    keys.join(", ")
}
