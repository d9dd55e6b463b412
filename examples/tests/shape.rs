//! What the components export and import, and whether their `tower.toml` fits them.

use std::collections::BTreeSet;

use command_tower_examples::{Example, ExampleModule, all, find};
use tower_domain::definition::DefinitionSpec;
use wit_component::DecodedWasm;

const STEP: &str = "command-tower:agent/step@0.1.0";
const AGGREGATE: &str = "command-tower:agent/aggregate@0.1.0";

/// Generous for a Rust guest; what grows past it has caught something that it does not need.
const COMPONENT_BYTES_MAX: usize = 256 * 1024;

/// Thirty behaviours, each with params of its own.
const PROBE_BYTES_MAX: usize = 384 * 1024;

struct Shape {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

fn shape(module: &ExampleModule) -> Shape {
    let Ok(DecodedWasm::Component(resolve, world)) = wit_component::decode(module.wasm) else {
        panic!("{} is not a component", module.name);
    };
    let world = &resolve.worlds[world];
    Shape {
        imports: world.imports.keys().map(|key| resolve.name_world_key(key)).collect(),
        exports: world.exports.keys().map(|key| resolve.name_world_key(key)).collect(),
    }
}

/// Those that a compiler made; the others are written to be bad.
fn modules() -> impl Iterator<Item = &'static ExampleModule> {
    let compiled = |example: &'static Example| {
        let paths: Vec<bool> = tables(&tower_toml(example), "module").iter().map(|module| !is_written(module)).collect();
        example.modules.iter().zip(paths).filter_map(|(module, compiled)| compiled.then_some(module))
    };
    all().iter().flat_map(compiled)
}

fn is_written(module: &toml::Table) -> bool {
    module["path"].as_str().expect("a path").ends_with(".wasm")
}

fn module(name: &str) -> &'static ExampleModule {
    modules().find(|module| module.name == name).expect("the module should be embedded")
}

fn tower_toml(example: &Example) -> toml::Table {
    example.tower_toml.parse().expect("tower.toml should be TOML")
}

fn tables<'a>(file: &'a toml::Table, name: &str) -> Vec<&'a toml::Table> {
    let list = file[name].as_array().expect("it should be a list of tables");
    list.iter().map(|entry| entry.as_table().expect("it should be a table")).collect()
}

#[test]
fn a_component_exports_what_has_an_attribute_and_nothing_else() {
    for (name, exports) in EXPORTS {
        let expected: BTreeSet<String> = exports.iter().map(|export| (*export).to_owned()).collect();
        assert_eq!(shape(module(name)).exports, expected, "{name}");
    }
    assert_eq!(modules().count(), EXPORTS.len());
}

const EXPORTS: &[(&str, &[&str])] = &[
    ("misbehaving", &[STEP, AGGREGATE]),
    ("monitor", &[STEP]),
    ("notebook", &[STEP]),
    ("probe", &[STEP, AGGREGATE]),
    ("report", &[STEP, AGGREGATE]),
    ("router", &[STEP, AGGREGATE]),
    ("strategy", &[STEP]),
    ("summary", &[STEP, AGGREGATE]),
    ("survey", &[STEP, AGGREGATE]),
];

#[test]
fn of_the_tower_a_component_imports_what_it_calls() {
    for (name, imports) in TOWER_IMPORTS {
        let found: Vec<String> = shape(module(name)).imports.into_iter().filter(|import| import.starts_with("command-tower:")).collect();
        let expected: Vec<String> = imports.iter().map(|import| format!("command-tower:agent/{import}@0.1.0")).collect();
        assert_eq!(found, expected, "{name}");
    }
}

const TOWER_IMPORTS: &[(&str, &[&str])] = &[
    ("misbehaving", &["children", "control", "report", "split", "types"]),
    ("probe", &["children", "control", "report", "split", "types"]),
    ("monitor", &["report", "types"]),
    ("notebook", &["types"]),
    ("report", &["children", "control", "split", "types"]),
    ("router", &["children", "report", "split", "types"]),
    ("strategy", &["control", "report", "types"]),
    ("summary", &["children", "control", "report", "types"]),
    ("survey", &["children", "control", "report", "split", "types"]),
];

#[test]
fn of_wasi_only_what_works_on_files_imports_files_and_nothing_imports_sockets() {
    for module in modules() {
        let imports = shape(module).imports;
        let files = imports.iter().any(|import| import.starts_with("wasi:filesystem/"));
        assert_eq!(files, ["misbehaving", "monitor", "notebook", "probe", "report", "survey"].contains(&module.name), "{}: {imports:?}", module.name);
        for import in &imports {
            let known = ["command-tower:agent/", "wasi:io/", "wasi:cli/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"];
            assert!(known.iter().any(|known| import.starts_with(known)), "{}: {import}", module.name);
        }
    }
}

#[test]
fn components_are_small_and_know_nothing_of_the_machine_that_built_them() {
    for module in modules() {
        let most = if module.name == "probe" { PROBE_BYTES_MAX } else { COMPONENT_BYTES_MAX };
        assert!(module.wasm.len() < most, "{}: {} bytes", module.name, module.wasm.len());
        let home = concat!(env!("CARGO_MANIFEST_DIR"), "/");
        assert!(!module.wasm.windows(home.len()).any(|bytes| bytes == home.as_bytes()), "{} names {home}", module.name);
    }
}

#[test]
fn every_definition_is_sound_and_runs_an_embedded_module() {
    for example in all() {
        let mut ids = BTreeSet::new();
        for table in tables(&tower_toml(example), "definition") {
            let mut table = table.clone();
            let id = table.remove("id").expect("it should have an id");
            let json = serde_json::to_string(&table).expect("TOML without dates is JSON");
            let spec: DefinitionSpec = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert_eq!(spec.check(), [], "{id}");
            let name = table["code_ref"].as_str().and_then(|code| code.strip_prefix("wasm://")).expect("it should be a module");
            assert!(example.modules.iter().any(|module| module.name == name), "{id}: there is no module {name}");
            assert!(ids.insert(id.to_string()), "{id} is there twice");
        }
        let trigger = tower_toml(example)["example"]["trigger"].to_string();
        assert!(ids.contains(&trigger), "{} triggers {trigger}, which is not one of its definitions", example.name);
    }
}

#[test]
fn the_params_of_an_example_fit_the_schema_of_what_it_triggers() {
    for example in all() {
        let file = tower_toml(example);
        let definitions = tables(&file, "definition");
        let trigger = &file["example"]["trigger"];
        let definition = definitions.iter().find(|definition| definition["id"] == *trigger).expect("it should be one of its own");
        let json = |value: &toml::Value| serde_json::to_value(value).expect("TOML without dates is JSON");
        let schema = jsonschema::validator_for(&json(&definition["params_schema"])).expect("it should be a JSON Schema");
        let mut params = definition.get("default_params").map_or_else(|| serde_json::json!({}), json);
        for (key, value) in file["example"]["params"].as_table().expect("params should be a table") {
            params[key] = json(value);
        }
        let errors: Vec<String> = schema.iter_errors(&params).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", example.name);
    }
}

#[test]
fn the_modules_are_those_that_tower_toml_names() {
    for example in all() {
        let file = tower_toml(example);
        let named: Vec<&str> = tables(&file, "module").iter().filter_map(|module| module["name"].as_str()).collect();
        let embedded: Vec<&str> = example.modules.iter().map(|module| module.name).collect();
        assert_eq!(named, embedded, "{}", example.name);
        for module in tables(&file, "module").into_iter().filter(|module| !is_written(module)) {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(example.name).join(module["path"].as_str().expect("a path"));
            assert!(folder.join("Cargo.toml").is_file(), "{}", folder.display());
        }
    }
}

#[test]
fn an_example_is_found_by_its_name() {
    assert!(find("probe").is_some_and(|example| example.readme.starts_with("# probe")));
    assert!(find("nothing").is_none());
    assert!(all().is_sorted_by_key(|example| example.name));
}
