//! `tower inspect`.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use tower_domain::code_ref::ModuleRef;
use tower_domain::module::Inspection;

use super::Context;
use super::failure::Failure;
use super::output::fields;
use super::project;
use super::term::{Term, one_line};
use crate::api::types::ModuleBody;

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A .wasm file, or NAME[:TAG] of the server
    #[arg(add = super::complete::tags())]
    module: String,
    /// Print the world as WIT text instead
    #[arg(long)]
    wit: bool,
}

/// What a file is, for programs.
#[derive(Serialize)]
struct Inspected<'a> {
    digest: String,
    size_bytes: u64,
    contract: &'a str,
    exports: &'a [String],
    imports: &'a [String],
    capabilities: &'a [String],
    aggregates: bool,
    language: Option<&'a str>,
    wit: &'a str,
}

pub(crate) async fn run(args: InspectArgs, context: &Context) -> Result<(), Failure> {
    let path = Path::new(&args.module);
    if path.is_file() || args.module.ends_with(".wasm") { file(path, args.wit, context) } else { module(&args, context).await }
}

fn file(path: &Path, wit: bool, context: &Context) -> Result<(), Failure> {
    let bytes = project::read(path)?;
    let inspected = tower_executors::wasm::inspect(&bytes).map_err(|refused| Failure::refused(refused.code(), &refused.to_string()))?;
    if wit {
        context.out.text(&inspected.wit);
        return Ok(());
    }
    let Inspection { digest, size_bytes, contract, exports, imports, capabilities, aggregates, wit, language } = &inspected;
    let body = Inspected {
        digest: digest.to_string(),
        size_bytes: *size_bytes,
        contract,
        exports,
        imports,
        capabilities,
        aggregates: *aggregates,
        language: language.as_deref(),
        wit,
    };
    let shown = Shown {
        size_bytes: *size_bytes,
        contract,
        exports,
        imports,
        capabilities,
        aggregates: *aggregates,
        language: language.as_deref(),
        digest: digest.to_string(),
    };
    context.out.made(&body, &body.digest, |term| shown.text(term))
}

async fn module(args: &InspectArgs, context: &Context) -> Result<(), Failure> {
    let path = module_path(&args.module)?;
    let client = context.client()?;
    if args.wit {
        let reply = client.get(&format!("{path}/wit"), &[]).await?;
        context.out.text(&String::from_utf8_lossy(&reply.body));
        return Ok(());
    }
    let reply = client.get(&path, &[]).await?;
    let module: ModuleBody = reply.read()?;
    context.out.one(&reply, &module.digest.to_string(), |term| describe(term, &module));
    Ok(())
}

/// The path of `name[:tag]` or `name@sha256:…`.
pub(crate) fn module_path(text: &str) -> Result<String, Failure> {
    if let Some((name, digest)) = text.split_once('@') {
        return Ok(format!("/modules/{name}/tags/{digest}"));
    }
    match text.parse::<ModuleRef>() {
        Ok(ModuleRef::Tag { name, tag }) => Ok(format!("/modules/{name}/tags/{tag}")),
        Ok(ModuleRef::Digest(digest)) => Ok(format!("/modules/any/tags/{digest}")),
        Err(error) => Err(Failure::usage(error.to_string()).help("a .wasm file, NAME, NAME:TAG or NAME@sha256:…")),
    }
}

/// A module for people.
pub(crate) fn describe(term: &Term, module: &ModuleBody) -> String {
    let shown = Shown {
        digest: module.digest.to_string(),
        size_bytes: module.size_bytes,
        contract: &module.contract,
        exports: &module.exports,
        imports: &module.imports,
        capabilities: &module.capabilities,
        aggregates: module.aggregates,
        language: module.language.as_deref(),
    };
    shown.text(term)
}

struct Shown<'a> {
    digest: String,
    size_bytes: u64,
    contract: &'a str,
    exports: &'a [String],
    imports: &'a [String],
    capabilities: &'a [String],
    aggregates: bool,
    language: Option<&'a str>,
}

impl Shown<'_> {
    fn text(&self, term: &Term) -> String {
        let lines = |all: &[String]| all.iter().map(|name| one_line(name)).collect::<Vec<_>>().join("\n");
        let needs = if self.capabilities.is_empty() { "nothing: no files, no network".to_owned() } else { lines(self.capabilities) };
        fields(
            term,
            &[
                ("digest", self.digest.clone()),
                ("size", size(self.size_bytes)),
                ("contract", one_line(self.contract)),
                ("language", self.language.map(one_line).unwrap_or_default()),
                ("folds results", if self.aggregates { "yes" } else { "no" }.to_owned()),
                ("needs", needs),
                ("exports", lines(self.exports)),
                ("imports", lines(self.imports)),
            ],
        )
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}
