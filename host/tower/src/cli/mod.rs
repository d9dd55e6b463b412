//! The command line. Standard output is data, standard error is everything else; exit codes are [`failure::Exit`].
//!
//! - [`serve`], [`run`], [`demo`]: with a host in this process; everything else is a client of the REST API
//! - [`push`], [`modules`], [`apply`], [`defs`], [`inspect`]: what people put in
//! - [`trigger`], [`watch`], [`traces`], [`tasks`], [`logs`], [`orders`], [`dlq`]: traces
//! - [`client`], [`project`], [`params`]: what verbs are made of
//! - [`live`], [`tree`], [`term`], [`output`], [`failure`]: what people see

mod apply;
mod client;
mod defs;
mod demo;
mod dlq;
mod failure;
mod inspect;
mod live;
mod logs;
mod modules;
mod orders;
mod output;
mod params;
mod project;
mod push;
mod run;
mod serve;
mod tasks;
mod term;
mod traces;
mod tree;
mod trigger;
mod version;
mod watch;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use client::Client;
use failure::{Exit, Failure};
use output::{Format, Output};
use term::{ColorWhen, Term};

/// Runs trees of agent-workflow steps as sandboxed WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "tower", version, about, max_term_width = 110, after_help = "First steps: tower run example:financial-analysis · tower demo · tower serve")]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
struct GlobalArgs {
    /// The server to talk to
    #[arg(long, global = true, env = "TOWER_URL", default_value = "http://127.0.0.1:8001")]
    url: String,
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
    /// What to log on standard error, such as `info` or `tower_engine=debug`
    #[arg(long, global = true, env = "TOWER_LOG", value_name = "FILTER")]
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
    Cancel(orders::CancelArgs),
    /// Run what did not succeed in a trace again, as a new trace
    Retry(orders::RetryArgs),
    /// Dead letters: tasks that failed for good
    #[command(subcommand)]
    Dlq(dlq::DlqVerb),
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
        Client::new(&self.global.url)
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // reqwest asks for a provider and does not choose one. Fails only if there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage as u8 } else { 0 });
        }
    };
    if let Err(failure) = log_to_stderr(&cli) {
        return report(&Context::new(cli.global), &failure);
    }
    let context = Context::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&context, &error.into()),
    };
    let result = runtime.block_on(dispatch(cli.verb, &context));
    // Whatever still blocks a thread, such as a read from a terminal, is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&context, &failure),
    }
}

async fn dispatch(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Run(args) => run::run(args, context).await,
        Verb::Demo(args) => demo::run(args, context).await,
        Verb::Serve(args) => serve::run(args, context).await,
        Verb::Inspect(args) => inspect::run(args, context).await,
        Verb::Push(args) => push::run(args, context).await,
        Verb::Modules(verb) => modules::run(verb, context).await,
        Verb::Apply(args) => apply::run(args, context).await,
        Verb::Defs(verb) => defs::run(verb, context).await,
        Verb::Trigger(args) => trigger::run(args, context).await,
        Verb::Watch(args) => watch::run(args, context).await,
        Verb::Traces(args) => traces::run(args, context).await,
        Verb::Tasks(args) => tasks::list(args, context).await,
        Verb::Task(args) => tasks::show(args, context).await,
        Verb::Logs(args) => logs::run(args, context).await,
        Verb::Cancel(args) => orders::cancel(args, context).await,
        Verb::Retry(args) => orders::retry(args, context).await,
        Verb::Dlq(verb) => dlq::run(verb, context).await,
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
