//! The command line. Standard output is data, standard error is everything else; exit codes are [`failure::Exit`].
//!
//! - [`serve`], [`run`], [`demo`]: with a host in this process; everything else is a client of the REST API
//! - [`push`], [`modules`], [`apply`], [`defs`], [`inspect`]: what people put in
//! - [`trigger`], [`watch`], [`traces`], [`tasks`], [`logs`], [`orders`], [`dlq`]: traces; [`schedules`]: what begins them by itself; [`limits`]: what keeps them waiting; [`sessions`]: what they have in common
//! - [`doctor`], [`config`], [`api`], [`complete`], [`help`]: what is around all that
//! - [`client`], [`project`], [`params`]: what verbs are made of
//! - [`live`], [`tree`], [`term`], [`output`], [`failure`]: what people see
//! - [`codes`], [`catalogue`]: the errors of the command line, and those of everything

mod api;
mod apply;
mod bulk;
mod catalogue;
mod client;
mod codes;
mod complete;
mod config;
mod confirm;
mod containers;
mod defs;
mod demo;
mod dlq;
mod doctor;
mod executors;
mod failure;
mod help;
mod hosts;
mod inspect;
#[cfg_attr(not(unix), path = "keys/nowhere.rs")]
mod keys;
mod limits;
mod live;
mod logs;
mod modules;
mod orders;
mod output;
mod params;
mod project;
mod push;
mod run;
mod schedules;
mod serve;
mod sessions;
mod tasks;
mod term;
mod traces;
mod tree;
mod trigger;
mod version;
mod watch;

use std::process::ExitCode;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use client::Client;
use failure::{Exit, Failure};
use output::{Format, Output};
use term::{ColorWhen, Term};

use crate::config::{Effective, SettingsArgs};

/// The argument with which this program starts itself to compile a module. Not for people.
pub(crate) const COMPILE_WORKER: &str = "compile-worker";

/// Runs trees of agent-workflow steps as sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(
    name = "tower",
    version,
    about,
    max_term_width = 110,
    disable_help_subcommand = true,
    after_help = "First steps: tower run example:financial-analysis · tower demo · tower serve"
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "For every command")]
struct GlobalArgs {
    /// The server to talk to [env: TOWER_URL] [default: http://127.0.0.1:8001]
    // Read from the environment here and not by clap, whose usage lines would show it as if it had to be given.
    #[arg(long, global = true)]
    url: Option<String>,
    /// How to print results
    #[arg(short = 'o', long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Short for -o json: the API's answer, byte for byte
    #[arg(long, global = true)]
    json: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, default_value_t = ColorWhen::Auto)]
    color: ColorWhen,
    /// No signs beyond ASCII
    #[arg(long, global = true)]
    ascii: bool,
    /// What to log on standard error, such as `info` or `tower_engine=debug` [env: TOWER_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a component and everything it splits off, here and now: no server, no files
    Run(run::RunArgs),
    /// Start a server, run the examples on it, and show them
    Demo(demo::DemoArgs),
    /// Serve the REST API
    Serve(serve::ServeVerb),
    /// Show what a component is: a .wasm file, or a module of the server
    Inspect(inspect::InspectArgs),
    /// Upload a component
    Push(push::PushArgs),
    /// Uploaded components
    #[command(subcommand)]
    Modules(modules::ModulesVerb),
    /// Push the modules and put the definitions of a tower.toml
    Apply(apply::ApplyArgs),
    /// Definitions
    #[command(subcommand)]
    Defs(defs::DefsVerb),
    /// Schedules: definitions that fire by themselves
    #[command(subcommand)]
    Schedules(schedules::SchedulesVerb),
    /// Hosts that work on the server's database: list them, drain one, have it take work again
    Hosts(hosts::HostsArgs),
    /// What runs steps: components, containers, outside workers; how much of each runs, is free and waits
    Executors,
    /// Containers of the server: list them, take one away, have some stand ready
    Containers(containers::ContainersArgs),
    /// Sessions: a user's continuing work, with a workspace
    #[command(subcommand)]
    Sessions(sessions::SessionsVerb),
    /// Limits in use: how many tasks run under each, and how many wait for it
    Limits(limits::LimitsArgs),
    /// Begin a trace, and print its id
    Trigger(trigger::TriggerArgs),
    /// Show a trace as it goes on
    Watch(watch::WatchArgs),
    /// List traces
    Traces(traces::TracesArgs),
    /// List a trace's tasks
    Tasks(tasks::TasksArgs),
    /// Show a task, with its attempts
    Task(tasks::TaskArgs),
    /// Print the log of a trace or a task
    Logs(logs::LogsArgs),
    /// Cancel a trace or a task with everything below it
    Cancel(orders::OrderArgs),
    /// Hold a trace or a task with everything below it: nothing of it begins until it is resumed
    Pause(orders::OrderArgs),
    /// Let a trace or a task go on that was paused
    Resume(orders::OrderArgs),
    /// Run what did not succeed in a trace again, as a new trace
    Retry(orders::RetryArgs),
    /// Run a trace again from one of its tasks, with other params if wanted, as a new trace
    Rerun(orders::RerunArgs),
    /// Cancel, pause, resume or retry many traces, chosen by what they have in common
    Bulk(bulk::BulkArgs),
    /// Dead letters: tasks that failed for good
    #[command(subcommand)]
    Dlq(dlq::DlqVerb),
    /// Look at this machine, the server and the database, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Settings of a server
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Send a request to any route of the server
    Api(api::ApiArgs),
    /// Print a script that lets the shell complete commands, ids and names
    Completions(complete::CompletionsArgs),
    /// Explain a command, or an error code
    Help(help::HelpArgs),
    /// Print versions
    Version,
}

/// What verbs are handed.
struct Context {
    global: GlobalArgs,
    out: Output,
    /// Standard error.
    err: Term,
}

impl Context {
    fn new(global: GlobalArgs) -> Self {
        let format = if global.json { Format::Json } else { global.output };
        let out = Output::new(format, Term::stdout(global.color, global.ascii));
        let err = Term::stderr(global.color, global.ascii);
        Self { global, out, err }
    }

    fn client(&self) -> Result<Client, Failure> {
        Client::new(self.url())
    }

    /// The server that commands talk to.
    fn url(&self) -> &str {
        self.global.url.as_deref().unwrap_or(DEFAULT_URL)
    }

    /// Whether somebody said which it is.
    fn url_was_given(&self) -> bool {
        self.global.url.is_some()
    }
}

/// Where a tower listens when nobody says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:8001";

fn url_of_environment() -> Option<String> {
    std::env::var("TOWER_URL").ok().filter(|url| !url.is_empty())
}

/// A server's settings, after flags, environment and files.
fn settings(args: &SettingsArgs, matches: &ArgMatches) -> Result<Effective, Failure> {
    args.effective(matches).map_err(|error| Failure::own(&codes::BAD_CONFIG, error.to_string()))
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // Before everything else: a worker has little time and memory, and starts no threads.
    if std::env::args_os().nth(1).is_some_and(|verb| verb == COMPILE_WORKER) {
        return tower_executors::wasm::compile_worker();
    }
    // reqwest asks for a provider and does not choose one. Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    complete::answer_shell();
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (mut cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return not_parsed(&error),
    };
    cli.global.url = cli.global.url.or_else(url_of_environment);
    cli.global.log = cli.global.log.or_else(|| std::env::var("TOWER_LOG").ok());
    if let Err(failure) = log_to_stderr(&cli) {
        return report(&Context::new(cli.global), &failure);
    }
    let context = Context::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&context, &error.into()),
    };
    let result = runtime.block_on(dispatch(cli.verb, innermost(&matches), &context));
    // Whatever still blocks a thread, such as a read from a terminal, is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&context, &failure),
    }
}

/// Help, or an error: in the form that was asked for, as far as that can be told.
fn not_parsed(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().collect();
    let given = |word: &String| matches!(word.as_str(), "--json" | "-ojson" | "-ojsonl" | "--output=json" | "--output=jsonl");
    let after = |pair: &[String]| matches!(pair[0].as_str(), "-o" | "--output") && matches!(pair[1].as_str(), "json" | "jsonl");
    if words.iter().any(given) || words.windows(2).any(after) {
        let text = error.to_string();
        let message = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        output::err_line(&Failure::usage(message).json().unwrap_or_default());
    } else {
        let _ = error.print();
    }
    ExitCode::from(Exit::Usage as u8)
}

/// The arguments of the verb itself.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, matches)| innermost(matches))
}

async fn dispatch(verb: Verb, matches: &ArgMatches, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Run(args) => run::run(args, context).await,
        Verb::Demo(args) => demo::run(args, context).await,
        Verb::Serve(args) => serve::run(args, matches, context).await,
        Verb::Inspect(args) => inspect::run(args, context).await,
        Verb::Push(args) => push::run(args, context).await,
        Verb::Modules(verb) => modules::run(verb, context).await,
        Verb::Apply(args) => apply::run(args, context).await,
        Verb::Defs(verb) => defs::run(verb, context).await,
        Verb::Schedules(verb) => schedules::run(verb, context).await,
        Verb::Hosts(args) => hosts::run(args, context).await,
        Verb::Executors => executors::run(context).await,
        Verb::Containers(args) => containers::run(args, context).await,
        Verb::Sessions(verb) => sessions::run(verb, context).await,
        Verb::Limits(args) => limits::run(args, context).await,
        Verb::Trigger(args) => trigger::run(args, context).await,
        Verb::Watch(args) => watch::run(args, context).await,
        Verb::Traces(args) => traces::run(args, context).await,
        Verb::Tasks(args) => tasks::list(args, context).await,
        Verb::Task(args) => tasks::show(args, context).await,
        Verb::Logs(args) => logs::run(args, context).await,
        Verb::Cancel(args) => orders::cancel(args, context).await,
        Verb::Pause(args) => orders::pause(args, context).await,
        Verb::Resume(args) => orders::resume(args, context).await,
        Verb::Retry(args) => orders::retry(args, context).await,
        Verb::Rerun(args) => orders::rerun(args, context).await,
        Verb::Bulk(args) => bulk::run(args, context).await,
        Verb::Dlq(verb) => dlq::run(verb, context).await,
        Verb::Doctor(args) => doctor::run(args, matches, context).await,
        Verb::Config(verb) => config::run(&verb, matches, context),
        Verb::Api(args) => api::run(args, context).await,
        Verb::Completions(args) => complete::run(&args, context),
        Verb::Help(args) => help::run(&args, context),
        Verb::Version => version::run(context),
    }
}

fn log_to_stderr(cli: &Cli) -> Result<(), Failure> {
    let default = if matches!(cli.verb, Verb::Serve(_)) { "info" } else { "warn" };
    let text = cli.global.log.as_deref().unwrap_or(default);
    let filter =
        EnvFilter::try_new(text).map_err(|error| Failure::usage(format!("--log {text}: {error}")).help("such as: --log info, or --log tower_engine=debug"))?;
    let color = Term::stderr(cli.global.color, cli.global.ascii).color;
    // A log that cannot be written (a full disk, say) must not end what it tells of: complaining about it on the same stream would.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color).log_internal_errors(false);
    // Fails only if there is a log already.
    let _ = log.try_init();
    Ok(())
}

fn report(context: &Context, failure: &Failure) -> ExitCode {
    let text = if context.out.is_json() { failure.json() } else { failure.prose() };
    if let Some(text) = text {
        output::err_line(&text);
    }
    ExitCode::from(failure.exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }
}
