//! Where settings come from. What there is to set stands in [`ServeArgs`] and nowhere else: a key in a file is a flag's name with `_`, its
//! section is the flag's heading in the help, and its value is read as the flag's would be.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, Parser};
use serde::Serialize;
use toml::{Table, Value};

use super::ServeArgs;

/// Which settings, and the file that they may come from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SettingsArgs {
    /// Read settings from this file, instead of tower.toml here, the user's config.toml and /etc/tower/config.toml
    #[arg(long, env = "TOWER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Settings alone, to read them from whatever texts they came as.
#[derive(Debug, Parser)]
#[command(name = "tower", disable_help_flag = true)]
pub(super) struct Settings {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Where a setting's value was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub(crate) enum Origin {
    /// On the command line.
    Flag,
    /// In this environment variable.
    Env(String),
    /// In this file.
    File(PathBuf),
    /// Nowhere.
    Default,
}

/// A setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Section and name, as a file has them.
    pub(crate) key: String,
    /// One, or for a repeatable setting any number.
    pub(crate) values: Vec<String>,
    /// Whether it is repeatable.
    pub(crate) list: bool,
    /// Where the value came from.
    pub(crate) origin: Origin,
}

/// All settings, with the values that hold.
#[derive(Debug)]
pub(crate) struct Effective {
    /// As a server takes them.
    pub(crate) serve: ServeArgs,
    /// As people look at them.
    pub(crate) settings: Vec<Setting>,
}

/// A setting that is wrong, or a file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadConfig(String);

impl SettingsArgs {
    /// What holds, after flags, environment and files. `matches` are those that these arguments were read from.
    pub(crate) fn effective(&self, matches: &ArgMatches) -> Result<Effective, BadConfig> {
        let layers = match &self.config {
            Some(file) => vec![Layer::read(file, false)?],
            None => found()?,
        };
        let mut settings = Vec::new();
        for arg in arguments() {
            settings.push(setting(&arg, matches, &layers)?);
        }
        let words = std::iter::once(OsString::from("tower")).chain(settings.iter().filter(|set| set.origin != Origin::Default).flat_map(words));
        // Each was read once already, where it came from; together they are read as flags.
        let serve = Settings::try_parse_from(words).map_err(|error| BadConfig(reason(&error)))?.serve;
        Ok(Effective { serve, settings })
    }
}

/// The flags that are settings.
pub(crate) fn arguments() -> Vec<Arg> {
    Settings::command().get_arguments().cloned().collect()
}

/// The sections of files, each once.
pub(crate) fn sections() -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for (section, _) in arguments().iter().map(key) {
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    sections
}

/// Section and name of a flag.
pub(crate) fn key(arg: &Arg) -> (String, String) {
    let section = arg.get_help_heading().unwrap_or("Server").to_lowercase();
    (section, arg.get_long().unwrap_or_default().replace('-', "_"))
}

fn setting(arg: &Arg, matches: &ArgMatches, layers: &[Layer]) -> Result<Setting, BadConfig> {
    let id = arg.get_id().as_str();
    let (section, name) = key(arg);
    // Read again as texts below: one that is none would become another.
    let text = |value: &OsStr| value.to_str().map(str::to_owned).ok_or_else(|| BadConfig(format!("{section}.{name}: the value is not UTF-8")));
    let given = || matches.get_raw(id).into_iter().flatten().map(text).collect::<Result<Vec<String>, BadConfig>>();
    let (values, origin) = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => (given()?, Origin::Flag),
        Some(ValueSource::EnvVariable) => (given()?, Origin::Env(arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())),
        _ => match layers.iter().find_map(|layer| layer.find(&section, &name).map(|values| (values, Origin::File(layer.path.clone())))) {
            Some(found) => found,
            None => (given()?, Origin::Default),
        },
    };
    Ok(Setting { key: format!("{section}.{name}"), values, list: is_list(arg), origin })
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// A setting as words of a command line.
fn words(setting: &Setting) -> Vec<OsString> {
    let name = setting.key.split_once('.').map_or("", |(_, name)| name).replace('_', "-");
    setting.values.iter().map(|value| OsString::from(format!("--{name}={value}"))).collect()
}

/// What a flag's reader has against a value.
fn reason(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    line.split_once(">': ").map_or(line, |(_, reason)| reason).to_owned()
}

/// A file of settings.
#[derive(Debug)]
struct Layer {
    path: PathBuf,
    sections: Table,
}

/// Files in which settings are looked for, the strongest first. The first also has modules and definitions.
fn places() -> Vec<(PathBuf, bool)> {
    let folder = |name: &str| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let of_user = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    let of_user = of_user.map(|folder| (folder.join("tower/config.toml"), false));
    [(PathBuf::from("tower.toml"), true)].into_iter().chain(of_user).chain([(PathBuf::from("/etc/tower/config.toml"), false)]).collect()
}

fn found() -> Result<Vec<Layer>, BadConfig> {
    places().into_iter().filter(|(path, _)| path.is_file()).map(|(path, project)| Layer::read(&path, project)).collect()
}

impl Layer {
    fn read(path: &Path, project: bool) -> Result<Self, BadConfig> {
        let at = path.display();
        let known = sections();
        let text = std::fs::read_to_string(path).map_err(|error| BadConfig(format!("{at} cannot be read: {error}")))?;
        let mut sections: Table = text.parse().map_err(|error: toml::de::Error| BadConfig(format!("{at}: {}", error.to_string().trim_end())))?;
        let arguments = arguments();
        if project {
            // The rest of a project is read by whoever builds or applies it.
            sections.retain(|section, _| known.iter().any(|known| known == section));
        }
        let layer = Self { path: path.to_owned(), sections };
        for (section, keys) in &layer.sections {
            let there = arguments.iter().filter(|arg| key(arg).0 == *section).map(|arg| key(arg).1).collect::<Vec<_>>().join(", ");
            if there.is_empty() {
                return Err(BadConfig(format!("{at}: there is no section [{section}]; there are: {}", known.join(", "))));
            }
            let keys = keys.as_table().ok_or_else(|| BadConfig(format!("{at}: [{section}] is a section")))?;
            for (name, value) in keys {
                let arg = arguments.iter().find(|arg| key(arg) == (section.clone(), name.clone()));
                let arg = arg.ok_or_else(|| BadConfig(format!("{at}: [{section}] has no setting `{name}`; it has: {there}")))?;
                check(arg, value).map_err(|reason| BadConfig(format!("{at}: {section}.{name} = {value}: {reason}")))?;
            }
        }
        Ok(layer)
    }

    fn find(&self, section: &str, name: &str) -> Option<Vec<String>> {
        texts(self.sections.get(section)?.get(name)?).ok()
    }
}

/// Whether a flag would take the value.
fn check(arg: &Arg, value: &Value) -> Result<(), String> {
    let values = texts(value)?;
    if is_list(arg) != value.is_array() {
        return Err(if is_list(arg) { "a list of texts is expected" } else { "one value is expected" }.to_owned());
    }
    let (section, name) = key(arg);
    let alone = Setting { key: format!("{section}.{name}"), values, list: is_list(arg), origin: Origin::Default };
    let read = Settings::try_parse_from(std::iter::once(OsString::from("tower")).chain(words(&alone)));
    read.map(|_| ()).map_err(|error| reason(&error))
}

/// A file's value as the texts that a flag would be given.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(number) => Ok(vec![number.to_string()]),
        Value::Float(number) => Ok(vec![number.to_string()]),
        Value::Boolean(yes) => Ok(vec![yes.to_string()]),
        Value::Array(values) => values.iter().map(one_of_a_list).collect(),
        Value::Datetime(_) | Value::Table(_) => Err("one value is expected".to_owned()),
    }
}

/// An element of a list. A flag would take a comma for the end of it.
fn one_of_a_list(value: &Value) -> Result<String, String> {
    match value.as_str() {
        Some(text) if text.contains(',') => Err(format!("`{text}` has a comma: one element is one text without it")),
        Some(text) => Ok(text.to_owned()),
        None => Err("a list of texts is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    fn effective(flags: &[&str], file: &str) -> Result<Effective, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.toml");
        std::fs::write(&path, file).unwrap();
        let config = format!("--config={}", path.display());
        let matches = Program::command().try_get_matches_from(["tower", &config].iter().chain(flags)).unwrap();
        let program = <Program as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        program.settings.effective(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_goes_over_a_file_and_a_file_over_the_default() {
        let file = "[server]\nlisten = \"127.0.0.1:9\"\nconnections_max = 7\n[host]\nslots = 5\ncancel_grace = \"2s\"\nmount = [\"a=/x\", \"b=/y\"]\n";
        let effective = effective(&["--slots", "6"], file).unwrap();
        let serve = &effective.serve;
        assert_eq!((serve.listen.port(), serve.connections_max, serve.slots, serve.mounts.len()), (9, 7, 6, 2));
        assert_eq!(serve.cancel_grace, std::time::Duration::from_secs(2));
        let origin = |key: &str| effective.settings.iter().find(|setting| setting.key == key).unwrap().origin.clone();
        assert_eq!(origin("host.slots"), Origin::Flag);
        assert!(matches!(origin("server.listen"), Origin::File(_)));
        assert_eq!(origin("server.data_dir"), Origin::Default);
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_refused_and_not_changed() {
        use std::os::unix::ffi::OsStrExt;
        let folder = OsStr::from_bytes(b"--data-dir=/tmp/\xff");
        let words = [OsStr::new("tower"), OsStr::new("--config=/dev/null"), folder];
        let matches = Program::command().try_get_matches_from(words).unwrap();
        let program = <Program as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
        assert_eq!(program.settings.effective(&matches).unwrap_err().to_string(), "server.data_dir: the value is not UTF-8");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_file_its_key_and_what_would_be_right() {
        for (file, words) in [
            ("[host]\nslots = 99999", vec!["some.toml", "host.slots = 99999", "1..=8000"]),
            ("[host]\nslots = [1]", vec!["host.slots", "expected"]),
            ("[host]\nmount = \"a=/x\"", vec!["host.mount", "list"]),
            ("[host]\nmount = [\"a=/x,b=/y\"]", vec!["host.mount", "comma"]),
            ("[host]\ncancel_grace = \"5 parsecs\"", vec!["host.cancel_grace", "30s"]),
            ("[host]\nslot = 5", vec!["`slot`", "slots"]),
            ("[hosts]\nslots = 5", vec!["[hosts]", "host"]),
            ("slots = 5", vec!["slots", "server"]),
            ("[host\n", vec!["some.toml", "line 1"]),
        ] {
            let refused = effective(&[], file).unwrap_err();
            assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
        }
    }
}
