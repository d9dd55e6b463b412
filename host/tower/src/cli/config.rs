//! `tower config`.

use clap::{ArgMatches, Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::Context;
use super::failure::Failure;
use super::term::table;
use crate::config::{Origin, Setting, SettingsArgs};

/// Settings of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Show what holds, after flags, environment and files
    Show(ShowArgs),
}

/// How to show it.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Say where each value comes from
    #[arg(long)]
    origin: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// A setting for programs.
#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    value: Value,
    origin: &'a Origin,
}

#[derive(Serialize)]
struct List<'a> {
    items: Vec<Shown<'a>>,
    next_cursor: Option<String>,
}

pub(crate) fn run(verb: &ConfigVerb, matches: &ArgMatches, context: &Context) -> Result<(), Failure> {
    let ConfigVerb::Show(args) = verb;
    let effective = super::settings(&args.settings, matches)?;
    let items = effective.settings.iter().map(|setting| Shown { key: &setting.key, value: value(setting), origin: &setting.origin }).collect();
    let ids = effective.settings.iter().map(|setting| setting.key.as_str()).collect::<Vec<_>>().join("\n");
    context.out.made(&List { items, next_cursor: None }, &ids, |term| {
        let rows: Vec<Vec<String>> = effective.settings.iter().map(|setting| row(setting, args.origin)).collect();
        table(term, if args.origin { &["KEY", "VALUE", "ORIGIN"] } else { &["KEY", "VALUE"] }, &rows)
    })
}

fn row(setting: &Setting, origin: bool) -> Vec<String> {
    let mut row = vec![setting.key.clone(), setting.values.join(", ")];
    if origin {
        row.push(match &setting.origin {
            Origin::Flag => "flag".to_owned(),
            Origin::Env(name) => format!("environment: {name}"),
            Origin::File(path) => format!("file: {}", path.display()),
            Origin::Default => "default".to_owned(),
        });
    }
    row
}

fn value(setting: &Setting) -> Value {
    let one = |text: &String| text.parse::<u64>().map_or_else(|_| Value::from(text.as_str()), Value::from);
    match setting.values.as_slice() {
        values if setting.list => values.iter().map(|value| Value::from(value.as_str())).collect(),
        [value] => one(value),
        _ => Value::Null,
    }
}
