//! What `tower.toml` says: modules to build, definitions to make, and, for an example, how to trigger it.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use serde::Deserialize;
use tower_domain::code_ref::{CodeRef, ModuleRef};
use tower_domain::definition::DefinitionSpec;
use tower_domain::json::Json;
use tower_domain::name::Name;

use super::codes as own;
use super::failure::Failure;
use crate::api::problem::{Problem, codes};
use crate::api::read_json;
use crate::api::types::SpecBody;

/// What guests are built for.
pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Everything that a project is made of, ready to be uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    /// Components by name.
    pub(crate) modules: Vec<(Name, Bytes)>,
    /// Definitions by id, as JSON.
    pub(crate) definitions: Vec<(Name, Json)>,
    /// What to trigger, if that is said or clear.
    pub(crate) trigger: Option<Name>,
    /// Params to trigger it with.
    pub(crate) params: Json,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    example: Option<ExampleHead>,
    #[serde(default)]
    module: Vec<ModuleEntry>,
    #[serde(default)]
    definition: Vec<serde_json::Map<String, serde_json::Value>>,
    /// Settings of a server that runs here: `config` reads them.
    #[serde(rename = "server")]
    _server: Option<toml::Table>,
    #[serde(rename = "host")]
    _host: Option<toml::Table>,
    #[serde(rename = "compile")]
    _compile: Option<toml::Table>,
    #[serde(rename = "workers")]
    _workers: Option<toml::Table>,
    #[serde(rename = "containers")]
    _containers: Option<toml::Table>,
    #[serde(rename = "sessions")]
    _sessions: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleHead {
    #[serde(default, rename = "description")]
    _description: String,
    trigger: Option<Name>,
    #[serde(default)]
    params: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleEntry {
    name: Name,
    path: PathBuf,
    /// Left out, with the definitions of it, unless one of them is asked for by name.
    #[serde(default)]
    on_demand: bool,
}

impl Project {
    /// An embedded example, `NAME` or `NAME/DEFINITION`.
    pub(crate) fn example(name: &str) -> Result<Self, Failure> {
        let (name, wanted) = match name.split_once('/') {
            Some((name, definition)) => (name, Some(a_name(definition)?)),
            None => (name, None),
        };
        let names = || command_tower_examples::all().iter().map(|example| example.name).collect::<Vec<_>>().join(", ");
        let example = command_tower_examples::find(name);
        let example =
            example.ok_or_else(|| Failure::own(&own::NO_SUCH_EXAMPLE, format!("there is no example `{name}`")).help(format!("there are: {}", names())))?;
        let mut modules = Vec::new();
        for module in example.modules {
            modules.push((a_name(module.name)?, Bytes::from_static(module.wasm)));
        }
        assemble(parse(example.tower_toml, &format!("example:{name}"))?, modules, wanted)
    }

    /// A folder with a `tower.toml`, or that file itself. Builds the modules that have not been built.
    pub(crate) fn folder(path: &Path) -> Result<Self, Failure> {
        let file = if path.is_dir() { path.join("tower.toml") } else { path.to_owned() };
        let text = std::fs::read_to_string(&file).map_err(|error| Failure::own(&own::NO_PROJECT, format!("{} cannot be read: {error}", file.display())))?;
        let parsed = parse(&text, &file.display().to_string())?;
        let folder = file.parent().unwrap_or(Path::new("."));
        let mut modules = Vec::new();
        for entry in &parsed.module {
            modules.push((entry.name.clone(), component(&folder.join(&entry.path), &entry.name)?));
        }
        assemble(parsed, modules, None)
    }

    /// One component, with a definition made up for it.
    pub(crate) fn wasm(path: &Path) -> Result<Self, Failure> {
        let name = name_of(path)?;
        let bytes = read(path)?;
        let spec = serde_json::json!({ "actor_type": "AGENT", "code_ref": format!("wasm://{name}") });
        Ok(Self { modules: vec![(name.clone(), bytes)], definitions: vec![(name.clone(), json(&spec)?)], trigger: Some(name), params: Json::empty_object() })
    }

    /// What a word on the command line names: `example:NAME`, a folder, a `tower.toml`, a `.wasm`.
    pub(crate) fn named(what: &str) -> Result<Self, Failure> {
        match what.strip_prefix("example:") {
            Some(name) => Self::example(name),
            None if what.ends_with(".wasm") => Self::wasm(Path::new(what)),
            None => Self::folder(Path::new(what)),
        }
    }
}

/// A file's name as a module's name.
pub(crate) fn name_of(path: &Path) -> Result<Name, Failure> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let text: String = stem.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '-' }).collect();
    a_name(text.trim_matches(['-', '.']))
}

fn a_name(text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|error| Failure::usage(error.to_string()))
}

fn json(value: &impl serde::Serialize) -> Result<Json, Failure> {
    Json::of(value).map_err(|error| Failure::usage(error.to_string()))
}

fn parse(text: &str, from: &str) -> Result<ProjectFile, Failure> {
    toml::from_str(text).map_err(|error| Failure::own(&own::BAD_PROJECT, format!("{from}: {}", error.to_string().trim_end())))
}

/// A definition of a project.
struct Defined {
    id: Name,
    spec: Json,
    /// Of one that runs a component.
    module: Option<ModuleRef>,
}

impl Defined {
    fn is_of(&self, module: &Name) -> bool {
        matches!(&self.module, Some(ModuleRef::Tag { name, .. }) if name == module)
    }
}

/// Puts a project together: all of it, or for one definition that is asked for by name.
fn assemble(file: ProjectFile, mut modules: Vec<(Name, Bytes)>, wanted: Option<Name>) -> Result<Project, Failure> {
    let mut definitions = defined(file.definition)?;
    if let Some(wanted) = wanted.as_ref().filter(|wanted| !definitions.iter().any(|definition| definition.id == **wanted)) {
        let ids = definitions.iter().map(|definition| definition.id.as_str()).collect::<Vec<_>>().join(", ");
        let failure = Failure::own(&own::NO_SUCH_THING, format!("the project has no definition `{wanted}`"));
        return Err(failure.help(format!("it has: {ids}")));
    }
    for module in file.module.iter().filter(|module| module.on_demand) {
        if !definitions.iter().any(|definition| wanted.as_ref() == Some(&definition.id) && definition.is_of(&module.name)) {
            modules.retain(|(name, _)| *name != module.name);
            definitions.retain(|definition| !definition.is_of(&module.name));
        }
    }
    let definitions: Vec<(Name, Json)> = definitions.into_iter().map(|definition| (definition.id, definition.spec)).collect();
    let only = (definitions.len() == 1).then(|| definitions[0].0.clone());
    let (trigger, mut params) = file.example.map_or((None, serde_json::Map::new()), |head| (head.trigger, head.params));
    if wanted.is_some() {
        // They are those of another definition.
        params.clear();
    }
    Ok(Project { modules, definitions, trigger: wanted.or(trigger).or(only), params: json(&params)? })
}

fn defined(specs: Vec<serde_json::Map<String, serde_json::Value>>) -> Result<Vec<Defined>, Failure> {
    let mut definitions: Vec<Defined> = Vec::new();
    for mut spec in specs {
        let id = spec.remove("id").and_then(|id| id.as_str().map(str::to_owned));
        let id = id.ok_or_else(|| Failure::own(&own::BAD_PROJECT, "a [[definition]] has no id"))?;
        let (id, spec) = (a_name(&id)?, json(&spec)?);
        if definitions.iter().any(|other| other.id == id) {
            return Err(Failure::own(&own::BAD_PROJECT, format!("definition `{id}` stands there twice")));
        }
        // All of them before any is put, so that a mistake in the last does not leave the first behind.
        let module = match DefinitionSpec::from(spec_of(&id, &spec)?).code_ref {
            CodeRef::Wasm(module) => Some(module),
            CodeRef::Container(_) | CodeRef::Http(_) | CodeRef::Queue(_) => None,
        };
        definitions.push(Defined { id, spec, module });
    }
    Ok(definitions)
}

/// A definition as the server would read it, with what is wrong with it said before anything is sent.
pub(crate) fn spec_of(id: &Name, spec: &Json) -> Result<SpecBody, Failure> {
    let about = |problem: Problem| Failure::from(problem).about(&format!("definition `{id}`"));
    let spec: SpecBody = read_json(spec).map_err(about)?;
    match DefinitionSpec::from(spec.clone()).check().first() {
        None => Ok(spec),
        Some(error) => Err(about(Problem::field(&codes::BAD_FIELDS, error.pointer, error.message.clone()))),
    }
}

/// Reads a file of bytes.
pub(crate) fn read(path: &Path) -> Result<Bytes, Failure> {
    std::fs::read(path).map(Bytes::from).map_err(|error| Failure::own(&own::NO_SUCH_FILE, format!("{} cannot be read: {error}", path.display())))
}

/// A module's component: the file itself, one that lies ready beside the crate, or what cargo builds.
fn component(path: &Path, name: &Name) -> Result<Bytes, Failure> {
    if path.extension().is_some_and(|extension| extension == "wasm") {
        return read(path);
    }
    let ready = path.join(format!("{name}.wasm"));
    if ready.is_file() {
        return read(&ready);
    }
    if !path.join("Cargo.toml").is_file() {
        let message = format!("module `{name}`: neither {} nor {} is there", ready.display(), path.join("Cargo.toml").display());
        return Err(Failure::own(&own::NO_COMPONENT, message));
    }
    read(&build(path, name)?)
}

/// Builds a cargo project to a component, and says where that is. Cargo's own output goes to standard error.
fn build(folder: &Path, name: &Name) -> Result<PathBuf, Failure> {
    let failed = |message: String| Failure::own(&own::BUILD_FAILED, message);
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder).args(["build", "--target", TARGET, "--profile", "release", "--message-format", "json-render-diagnostics"]);
    let output = cargo.stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| failed(format!("module `{name}`: cargo cannot be started: {error}")).help("install Rust with rustup"))?;
    if !output.status.success() {
        let failure = failed(format!("module `{name}` does not build: see above"));
        return Err(if target_is_missing() {
            failed(format!("the Rust target {TARGET} is not installed")).help(format!("rustup target add {TARGET}"))
        } else {
            failure
        });
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    let built = messages.flat_map(|message| message.filenames).rfind(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    built.ok_or_else(|| failed(format!("module `{name}`: cargo built no .wasm")).help("the crate needs [lib] crate-type = [\"cdylib\"]"))
}

/// Whether guests cannot be built for want of it.
pub(crate) fn target_is_missing() -> bool {
    let printed = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    !printed.is_ok_and(|printed| Path::new(String::from_utf8_lossy(&printed.stdout).trim()).is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_project() {
        for example in command_tower_examples::all() {
            let project = Project::example(example.name).unwrap();
            assert!(project.trigger.is_some() && !project.definitions.is_empty(), "{}", example.name);
            for (id, spec) in &project.definitions {
                spec.read::<crate::api::types::SpecBody>().unwrap_or_else(|error| panic!("{id}: {error}"));
            }
        }
    }

    #[test]
    fn a_projects_file_may_hold_the_settings_of_a_server_too() {
        for section in crate::config::sections() {
            parse(&format!("[{section}]\n"), "tower.toml").unwrap();
        }
    }

    #[test]
    fn a_component_alone_is_a_project() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("My_Step.wasm");
        std::fs::write(&file, b"\0asm").unwrap();
        let project = Project::named(&file.display().to_string()).unwrap();
        assert_eq!(project.trigger.unwrap().as_str(), "my-step");
    }

    #[test]
    fn what_a_file_misspells_is_named() {
        let refused = parse("[[modul]]\nname = \"x\"", "tower.toml").unwrap_err().prose().unwrap();
        assert!(refused.contains("modul") && refused.contains("tower.toml"), "{refused}");
    }
}
