//! `tower help`: of commands, as `--help` prints it, and of error codes.

use clap::{Args, Command, CommandFactory};

use super::Context;
use super::catalogue::{self, Entry};
use super::failure::Failure;
use super::output::fields;
use super::{Cli, codes};

/// What to explain.
#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// A command, such as `dlq ls`, or an error code, such as GUEST_TIMEOUT
    #[arg(value_name = "COMMAND | CODE", add = super::complete::codes_and_verbs())]
    words: Vec<String>,
}

pub(crate) fn run(args: &HelpArgs, context: &Context) -> Result<(), Failure> {
    let mut root = Cli::command();
    // Tells every command its whole name and the options that all of them take.
    root.build();
    if let Some(command) = of_command(&mut root, &args.words) {
        context.out.text(&command.render_long_help().to_string());
        return Ok(());
    }
    let word = args.words.join(" ");
    let mut entries = catalogue::all();
    match entries.remove(word.to_ascii_uppercase().replace('-', "_").as_str()) {
        Some(entry) => context.out.made(&entry, entry.code, |_| explained(&entry, context)),
        None => Err(unknown(&word, &root)),
    }
}

fn of_command<'a>(root: &'a mut Command, words: &[String]) -> Option<&'a mut Command> {
    words.iter().try_fold(root, |command, word| command.find_subcommand_mut(word))
}

fn explained(entry: &Entry, context: &Context) -> String {
    let term = &context.out.term;
    let text = format!("{}\n{}\n\n", term.bold(entry.code), entry.means);
    let retried = entry.retried.map(|retried| if retried { "by itself, up to max_retries" } else { "not by itself; `tower retry TRACE` does" });
    text + &fields(
        term,
        &[
            ("what to do", entry.remedy.unwrap_or_default().to_owned()),
            ("appears in", entry.appears.join(", ")),
            ("HTTP status", entry.http_status.map_or_else(String::new, |status| status.to_string())),
            ("exit code", entry.exit_code.map_or_else(String::new, |exit| exit.to_string())),
            ("retried", retried.unwrap_or_default().to_owned()),
        ],
    )
}

fn unknown(word: &str, root: &Command) -> Failure {
    let failure = Failure::own(&codes::NO_SUCH_CODE, format!("`{word}` is neither an error code nor a command"));
    let known = catalogue::all();
    let names = known.keys().copied().chain(root.get_subcommands().map(Command::get_name));
    match catalogue::near(word, names).as_slice() {
        [] => failure,
        near => failure.help(format!("did you mean {}?", near.join(", "))),
    }
}
