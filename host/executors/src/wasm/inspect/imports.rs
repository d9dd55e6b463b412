//! What a component imports, held against what the tower gives.

use wit_parser::{InterfaceId, Resolve, WorldId, WorldItem};

use super::InspectError;
use super::contract::{self, Standing};

/// Interfaces of WASI 0.2 that every module gets; with what they do here.
pub(crate) const WASI_GIVEN: &[&str] = &[
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    // Empty environment, no arguments, closed input; output and error are the task's log.
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    // No folder, unless the definition grants a workspace.
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
];

/// Names of imports and exports, as people read them.
pub(super) struct Names {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<String>,
}

impl Names {
    pub(super) fn of(resolve: &Resolve, world: WorldId) -> Self {
        let world = &resolve.worlds[world];
        let name = |(key, item): (_, &WorldItem)| match item {
            WorldItem::Interface { .. } | WorldItem::Function(_) => Some(resolve.name_world_key(key)),
            WorldItem::Type { .. } => None,
        };
        Self { imports: world.imports.iter().filter_map(name).collect(), exports: world.exports.iter().filter_map(name).collect() }
    }
}

enum Verdict {
    Given,
    /// There is such a thing, and no module gets it.
    Denied,
    Unknown,
}

/// Whether every import is given.
pub(super) fn check(resolve: &Resolve, world: WorldId) -> Result<(), InspectError> {
    let (mut denied, mut unknown) = (Vec::new(), Vec::new());
    for (key, item) in &resolve.worlds[world].imports {
        let name = resolve.name_world_key(key);
        let verdict = match item {
            WorldItem::Type { .. } => Verdict::Given,
            WorldItem::Function(_) => Verdict::Unknown,
            WorldItem::Interface { id, .. } => match contract::standing(resolve, *id) {
                Standing::OtherVersion(version) => return Err(contract::other_version(&version)),
                Standing::Ours(name) => {
                    contract::check_functions(resolve, *id, &name)?;
                    Verdict::Given
                }
                Standing::Foreign => foreign(resolve, *id),
            },
        };
        match verdict {
            Verdict::Given => {}
            Verdict::Denied => denied.push(InspectError::cleaned(&name)),
            Verdict::Unknown => unknown.push(InspectError::cleaned(&name)),
        }
    }
    if !denied.is_empty() {
        return Err(InspectError::ImportDenied { imports: first_of(denied) });
    }
    if !unknown.is_empty() {
        let old = unknown.iter().any(|name| name == "wasi_snapshot_preview1" || name.starts_with("env"));
        let hint = if old { "; build with `--target wasm32-wasip2`" } else { "" };
        return Err(InspectError::UnknownImport { imports: first_of(unknown), hint: hint.to_owned() });
    }
    Ok(())
}

/// A hostile list is not worth showing in full.
fn first_of(mut names: Vec<String>) -> Vec<String> {
    const SHOWN_MAX: usize = 20;
    let more = names.len().saturating_sub(SHOWN_MAX);
    names.truncate(SHOWN_MAX);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names
}

fn foreign(resolve: &Resolve, interface: InterfaceId) -> Verdict {
    let interface = &resolve.interfaces[interface];
    let (Some(package), Some(name)) = (interface.package, &interface.name) else { return Verdict::Unknown };
    let package = &resolve.packages[package].name;
    if package.namespace != "wasi" {
        return Verdict::Unknown;
    }
    let bare = format!("wasi:{}/{name}", package.name);
    let preview_2 = package.version.as_ref().is_some_and(|version| (version.major, version.minor) == (0, 2));
    if preview_2 && WASI_GIVEN.contains(&bare.as_str()) { Verdict::Given } else { Verdict::Denied }
}
