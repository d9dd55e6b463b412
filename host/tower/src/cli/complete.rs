//! `tower completions`: a script for the shell, which asks this program what may come next. Ids, names and tags come from the server; when
//! it does not answer at once, there are none, and nothing is said.

use std::ffi::OsStr;
use std::time::Duration;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::{Cli, Context, DEFAULT_URL, catalogue, url_of_environment};

/// Set by the script when it asks.
const VARIABLE: &str = "TOWER_COMPLETE";
/// How long the server may take for an answer: somebody has pressed a key and waits.
const PATIENCE: Duration = Duration::from_millis(700);
/// Traces that are offered, the newest.
const TRACES_MAX: u32 = 50;
/// Traces whose tasks are offered, the newest.
const TRACES_OF_TASKS_MAX: usize = 3;

/// bash takes `example:name` and `module:tag` for three words each. They are joined before the question, and of the answers only what comes
/// after the last colon is put in.
const BASH_COLONS: &str = r#"
_tower() {
    local -a words=()
    local word last index=$COMP_CWORD i
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        word=${COMP_WORDS[i]}
        last=$((${#words[@]} - 1))
        if ((last > 0)) && [[ $word == : || ${words[last]} == *: ]]; then
            words[last]+=$word
            if ((i <= COMP_CWORD)); then index=$((index - 1)); fi
        else
            words+=("$word")
        fi
    done
    local -a COMP_WORDS=("${words[@]}")
    local COMP_CWORD=$index
    local current=${words[index]}
    _clap_complete_tower "$1" "$current" "$3"
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    fi
}
if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -o nospace -o bashdefault -o default -o nosort -F _tower tower
else
    complete -o nospace -o bashdefault -o default -F _tower tower
fi
"#;

/// Which shell.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell that is to complete
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

/// Answers the script, where it is the script that asks. Ends the program then.
pub(crate) fn answer_shell() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs, context: &Context) -> Result<(), Failure> {
    let name = args.shell.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let shells = Shells::builtins();
    let shell = shells.completer(&name).ok_or_else(|| Failure::usage(format!("no script is there for {name}")))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "tower", "tower", "tower", &mut script)?;
    context.out.text(&String::from_utf8_lossy(&script));
    if matches!(args.shell, Shell::Bash) {
        context.out.text(BASH_COLONS);
    }
    Ok(())
}

/// Ids of traces.
pub(crate) fn traces() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let page = ask(&[format!("/traces?limit={TRACES_MAX}")]);
        page.iter().filter_map(|trace| candidate(trace, "trace_id", &["definition_id", "status"])).collect()
    })
}

/// Ids of tasks of the newest traces.
pub(crate) fn tasks() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let traces = ask(&[format!("/traces?limit={TRACES_OF_TASKS_MAX}")]);
        let mut paths: Vec<String> = traces.iter().filter_map(|trace| Some(format!("/traces/{}/tasks?limit=100", trace["trace_id"].as_str()?))).collect();
        paths.push("/dead-letters".to_owned());
        let mut found: Vec<CompletionCandidate> = ask(&paths).iter().filter_map(|task| candidate(task, "id", &["key", "status"])).collect();
        found.sort_by(|a, b| a.get_value().cmp(b.get_value()));
        found.dedup_by(|a, b| a.get_value() == b.get_value());
        found
    })
}

/// Ids of definitions.
pub(crate) fn definitions() -> ArgValueCandidates {
    ArgValueCandidates::new(|| ask(&["/definitions?limit=500".to_owned()]).iter().filter_map(|found| candidate(found, "id", &["code_ref"])).collect())
}

/// Names of modules.
pub(crate) fn modules() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let mut names: Vec<CompletionCandidate> = ask(&["/modules?limit=500".to_owned()]).iter().filter_map(|tag| candidate(tag, "name", &[])).collect();
        names.dedup_by(|a, b| a.get_value() == b.get_value());
        names
    })
}

/// Names of modules with their tags, and files.
pub(crate) fn tags() -> ArgValueCompleter {
    with_files(|| {
        let tags = ask(&["/modules?limit=500".to_owned()]);
        tags.iter().filter_map(|tag| Some(format!("{}:{}", tag["name"].as_str()?, tag["tag"].as_str()?))).collect()
    })
}

/// What can be run: examples, and files.
pub(crate) fn projects() -> ArgValueCompleter {
    with_files(|| command_tower_examples::all().iter().map(|example| format!("example:{}", example.name)).collect())
}

fn with_files(words: impl Fn() -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let begins = current.to_string_lossy();
        let fitting = words().into_iter().filter(|word| word.starts_with(&*begins)).map(CompletionCandidate::new);
        fitting.chain(PathCompleter::any().complete(current)).collect()
    })
}

/// Error codes.
pub(crate) fn codes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| catalogue::all().into_keys().map(CompletionCandidate::new).collect())
}

/// What can be explained.
pub(crate) fn codes_and_verbs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let verbs =
            Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| CompletionCandidate::new(verb.get_name())).collect::<Vec<_>>();
        verbs.into_iter().chain(catalogue::all().into_keys().map(CompletionCandidate::new)).collect()
    })
}

fn candidate(item: &Value, field: &str, about: &[&str]) -> Option<CompletionCandidate> {
    let about = about.iter().filter_map(|field| item[*field].as_str()).collect::<Vec<_>>().join(" ");
    Some(CompletionCandidate::new(item[field].as_str()?).help((!about.is_empty()).then(|| about.into())))
}

/// Items of these lists; none when anything is amiss.
fn ask(paths: &[String]) -> Vec<Value> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let Ok(client) = Client::new(&url()) else { return Vec::new() };
    let asked = async {
        let replies = futures::future::join_all(paths.iter().map(|path| client.get_path(path))).await;
        let bodies = replies.into_iter().filter_map(|reply| reply.ok()?.read::<Value>().ok());
        bodies.filter_map(|mut body| body["items"].as_array_mut().map(std::mem::take)).flatten().collect()
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await }).unwrap_or_default()
}

/// The server of the line that is being completed.
fn url() -> String {
    let words: Vec<String> = std::env::args().skip_while(|word| word != "--").collect();
    let given = words.iter().enumerate().find_map(|(at, word)| match word.as_str() {
        "--url" => words.get(at + 1).cloned(),
        word => word.strip_prefix("--url=").map(str::to_owned),
    });
    given.or_else(url_of_environment).unwrap_or_else(|| DEFAULT_URL.to_owned())
}
