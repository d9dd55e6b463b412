//! `tower doctor`: looks at everything that a tower needs, and says what to do about what is amiss.
//!
//! - [`environment`]: what modules are built with, and what this machine gives
//! - [`server`]: the address, and who answers there
//! - [`database`]: a database file and its invariants; [`postgres`]: a PostgreSQL database and the same

mod database;
mod environment;
mod limits;
mod postgres;
mod server;

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};
use super::term::{Term, one_line};
use crate::api::types::Status;
use crate::config::{SettingsArgs, is_postgres};

/// What to look at.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Install what is missing and can be installed; says what it runs
    #[arg(long, conflicts_with = "db")]
    fix: bool,
    /// Look at this database and nothing else; it is not changed, and a tower may be working on it
    #[arg(long, value_name = "FILE|postgres://…")]
    db: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// There was nothing to look at.
    Skipped,
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warning,
    /// It does not work.
    Failed,
}

/// Something that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    id: &'static str,
    verdict: Verdict,
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Check {
    fn new(id: &'static str, verdict: Verdict, message: impl Into<String>) -> Self {
        Self { id, verdict, message: message.into(), help: None }
    }

    fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Verdict::Ok, message)
    }

    fn skipped(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Verdict::Skipped, message)
    }

    fn warning(id: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..Self::new(id, Verdict::Warning, message) }
    }

    fn failed(id: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..Self::new(id, Verdict::Failed, message) }
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Findings {
    /// The worst of the checks.
    verdict: Verdict,
    checks: Vec<Check>,
    /// The database, where one was looked at.
    database: Option<Found>,
}

/// A database that was looked at.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Found {
    Sqlite(database::Database),
    Postgres(postgres::PostgresDatabase),
}

/// Looks at a file, or at what the address is of.
async fn look(place: &Path) -> Result<(Vec<Check>, Found), Failure> {
    match place.to_str().filter(|text| is_postgres(text)) {
        Some(url) => postgres::look(url).await.map(|(checks, found)| (checks, Found::Postgres(found))),
        None => database::look(place).await.map(|(checks, found)| (checks, Found::Sqlite(found))),
    }
}

pub(crate) async fn run(args: DoctorArgs, matches: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let (checks, database) = match &args.db {
        Some(file) => {
            let (checks, database) = look(file).await?;
            (checks, Some(database))
        }
        None => everything(&args, matches, context).await?,
    };
    let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Skipped);
    let findings = Findings { verdict, checks, database };
    context.out.made(&findings, &ids(&findings), |term| findings.checks.iter().map(|check| shown(term, check)).collect())?;
    if verdict == Verdict::Failed { Err(Failure::silent(Exit::Failed)) } else { Ok(()) }
}

async fn everything(args: &DoctorArgs, matches: &ArgMatches, context: &Context) -> Result<(Vec<Check>, Option<Found>), Failure> {
    let serve = super::settings(&args.settings, matches)?.serve;
    let mut checks = environment::toolchain(args.fix);
    checks.push(match serve.clone().check() {
        Ok(_) => Check::ok("settings", "a server would start with them"),
        Err(error) => Check::failed("settings", format!("{error:#}"), "`tower config show --origin` shows where each comes from"),
    });
    checks.push(environment::data_folder(&serve.data_dir));
    checks.push(environment::descriptors(serve.connections_max));
    checks.extend(environment::sandbox(serve.slots));
    checks.push(environment::clock());
    checks.push(server::port(serve.listen).await);
    checks.extend(server::server(context).await?);
    let file = serve.database.clone().map_or_else(|| serve.data_dir.join("tower.db"), PathBuf::from);
    if serve.database.is_none() && !file.exists() {
        checks.push(Check::skipped("database", format!("there is none at {} yet", file.display())));
        return Ok((checks, None));
    }
    match look(&file).await {
        Ok((found, database)) => {
            checks.extend(found);
            Ok((checks, Some(database)))
        }
        Err(failure) => {
            checks.push(Check { help: None, ..Check::failed("database", failure.message(), "") });
            Ok((checks, None))
        }
    }
}

/// For `-o id`: what is amiss.
fn ids(findings: &Findings) -> String {
    findings.checks.iter().filter(|check| check.verdict >= Verdict::Warning).map(|check| check.id).collect::<Vec<_>>().join("\n")
}

fn shown(term: &Term, check: &Check) -> String {
    let (state, word) = match check.verdict {
        Verdict::Ok => (Status::Success, "ok"),
        Verdict::Warning => (Status::Pending, "warning"),
        Verdict::Failed => (Status::Failed, "failed"),
        Verdict::Skipped => (Status::Skipped, "skipped"),
    };
    let head = term.tint(state, &format!("{} {word:<7}", term.glyph(state)));
    let lines: Vec<String> = check.message.lines().map(one_line).collect();
    let mut text = format!("{head}  {:<14}  {}\n", check.id, lines.join(&format!("\n{}", " ".repeat(27))));
    if let Some(help) = &check.help {
        text.push_str(&format!("{}help: {help}\n", " ".repeat(27)));
    }
    text
}
