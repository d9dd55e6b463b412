//! Holding a component's types against `wit/`.

use std::sync::LazyLock;

use wit_parser::{Function, FunctionKind, InterfaceId, Resolve, SourceMap, Type, TypeDefKind, WorldId, WorldItem};

use super::InspectError;

/// Versions of the contract that this tower runs, newest last.
pub const CONTRACT_VERSIONS: &[&str] = &["0.1.0"];

const NAMESPACE: &str = "command-tower";
const PACKAGE: &str = "agent";

static CONTRACT: LazyLock<Resolve> = LazyLock::new(|| {
    let mut source = SourceMap::default();
    source.push_str("aggregate.wit", include_str!("../../../../../wit/aggregate.wit"));
    source.push_str("children.wit", include_str!("../../../../../wit/children.wit"));
    source.push_str("control.wit", include_str!("../../../../../wit/control.wit"));
    source.push_str("report.wit", include_str!("../../../../../wit/report.wit"));
    source.push_str("split.wit", include_str!("../../../../../wit/split.wit"));
    source.push_str("step.wit", include_str!("../../../../../wit/step.wit"));
    source.push_str("types.wit", include_str!("../../../../../wit/types.wit"));
    source.push_str("worlds.wit", include_str!("../../../../../wit/worlds.wit"));
    let group = source.parse().map_err(|(_, error)| error).expect("the contract parses: the bindings are made of the same text");
    let mut resolve = Resolve::new();
    resolve.push_group(group).expect("the contract resolves: the bindings are made of the same text");
    resolve
});

/// What the exports say.
pub(super) struct Exports {
    /// The contract's version that the step was built against.
    pub(super) contract: String,
    pub(super) aggregates: bool,
}

/// Where an interface of a component stands to the contract.
pub(super) enum Standing {
    /// Not in the contract's package.
    Foreign,
    /// An interface of the contract, in a version that runs here; with its name.
    Ours(String),
    /// The contract's package in a version that does not run here.
    OtherVersion(String),
}

pub(super) fn standing(resolve: &Resolve, interface: InterfaceId) -> Standing {
    let interface = &resolve.interfaces[interface];
    let (Some(package), Some(name)) = (interface.package, &interface.name) else { return Standing::Foreign };
    let package = &resolve.packages[package].name;
    if package.namespace != NAMESPACE || package.name != PACKAGE {
        return Standing::Foreign;
    }
    let runs = package.version.as_ref().is_some_and(|theirs| {
        CONTRACT.packages.iter().filter_map(|(_, ours)| ours.name.version.as_ref()).any(|ours| {
            // Within one minor version a later patch only adds, so that an older component runs on a newer tower.
            (theirs.major, theirs.minor) == (ours.major, ours.minor) && theirs.patch <= ours.patch
        })
    });
    if runs { Standing::Ours(name.clone()) } else { Standing::OtherVersion(package.version.as_ref().map_or("none".to_owned(), ToString::to_string)) }
}

pub(super) fn other_version(version: &str) -> InspectError {
    InspectError::WorldMismatch(format!(
        "built against version {version} of the contract command-tower:agent, and this tower runs {}",
        CONTRACT_VERSIONS.join(", ")
    ))
}

/// Looks for `step`, of the right type, and for `aggregate`.
pub(super) fn check_exports(resolve: &Resolve, world: WorldId, names: &[String]) -> Result<Exports, InspectError> {
    let (mut contract, mut aggregates) = (None, false);
    for item in resolve.worlds[world].exports.values() {
        let WorldItem::Interface { id, .. } = item else { continue };
        match standing(resolve, *id) {
            Standing::Foreign => {}
            Standing::OtherVersion(version) => return Err(other_version(&version)),
            Standing::Ours(name) => {
                check_functions(resolve, *id, &name)?;
                match name.as_str() {
                    "step" => contract = version_of(resolve, *id),
                    "aggregate" => aggregates = true,
                    _ => {}
                }
            }
        }
    }
    let missing = || InspectError::WorldMismatch(format!("it does not export command-tower:agent/step{}", hint(names)));
    Ok(Exports { contract: contract.ok_or_else(missing)?, aggregates })
}

fn hint(exports: &[String]) -> String {
    if exports.iter().any(|name| name.starts_with("wasi:cli/run")) {
        "; it is a program with a `main`: make it a library whose function carries #[command_tower::step]".to_owned()
    } else if exports.is_empty() {
        "; it exports nothing".to_owned()
    } else {
        let shown: Vec<_> = exports.iter().take(10).map(String::as_str).collect();
        InspectError::cleaned(&format!("; it exports {}", shown.join(", ")))
    }
}

fn version_of(resolve: &Resolve, interface: InterfaceId) -> Option<String> {
    let package = resolve.interfaces[interface].package?;
    resolve.packages[package].name.version.as_ref().map(ToString::to_string)
}

/// Whether every function of an interface of theirs is one of the contract's, with the same types; an export must have them all.
pub(super) fn check_functions(theirs: &Resolve, interface: InterfaceId, name: &str) -> Result<(), InspectError> {
    let ours = CONTRACT.interfaces.iter().find(|(_, ours)| ours.name.as_deref() == Some(name));
    let Some((_, ours)) = ours else {
        return Err(InspectError::UnknownImport {
            imports: vec![format!("command-tower:agent/{name}")],
            hint: format!("; the contract is that of version {}", CONTRACT_VERSIONS.join(", ")),
        });
    };
    let wrong = |function: &str| {
        let text =
            format!("its {name}.{function} has another type than the contract's: build it against the WIT files of version {}", CONTRACT_VERSIONS.join(", "));
        InspectError::WorldMismatch(InspectError::cleaned(&text))
    };
    for (function, theirs_function) in &theirs.interfaces[interface].functions {
        let same = ours.functions.get(function).is_some_and(|ours_function| Pair { theirs, ours: &CONTRACT }.same_function(theirs_function, ours_function));
        if !same {
            return Err(wrong(function));
        }
    }
    // An import may leave out what is not called; an export may not.
    let missing = ours.functions.keys().find(|function| !theirs.interfaces[interface].functions.contains_key(*function));
    match missing {
        Some(missing) if matches!(name, "step" | "aggregate") => Err(wrong(missing)),
        Some(_) | None => Ok(()),
    }
}

/// Two sets of types, compared by structure: names of fields and cases count, names of types do not.
struct Pair<'a> {
    theirs: &'a Resolve,
    ours: &'a Resolve,
}

impl Pair<'_> {
    fn same_function(&self, theirs: &Function, ours: &Function) -> bool {
        matches!(theirs.kind, FunctionKind::Freestanding)
            && theirs.params.len() == ours.params.len()
            && theirs.params.iter().zip(&ours.params).all(|(theirs, ours)| self.same(&theirs.ty, &ours.ty))
            && self.same_option(theirs.result.as_ref(), ours.result.as_ref())
    }

    fn same_option(&self, theirs: Option<&Type>, ours: Option<&Type>) -> bool {
        match (theirs, ours) {
            (Some(theirs), Some(ours)) => self.same(theirs, ours),
            (None, None) => true,
            _ => false,
        }
    }

    /// Ends because it goes down both at once, and the contract's types are finite.
    fn same(&self, theirs: &Type, ours: &Type) -> bool {
        let (theirs, ours) = (bare(self.theirs, theirs), bare(self.ours, ours));
        let (Type::Id(their_id), Type::Id(our_id)) = (theirs, ours) else { return theirs == ours };
        match (&self.theirs.types[their_id].kind, &self.ours.types[our_id].kind) {
            (TypeDefKind::Record(theirs), TypeDefKind::Record(ours)) => {
                theirs.fields.len() == ours.fields.len()
                    && theirs.fields.iter().zip(&ours.fields).all(|(theirs, ours)| theirs.name == ours.name && self.same(&theirs.ty, &ours.ty))
            }
            (TypeDefKind::Variant(theirs), TypeDefKind::Variant(ours)) => {
                theirs.cases.len() == ours.cases.len()
                    && theirs
                        .cases
                        .iter()
                        .zip(&ours.cases)
                        .all(|(theirs, ours)| theirs.name == ours.name && self.same_option(theirs.ty.as_ref(), ours.ty.as_ref()))
            }
            (TypeDefKind::Enum(theirs), TypeDefKind::Enum(ours)) => theirs.cases.iter().map(|case| &case.name).eq(ours.cases.iter().map(|case| &case.name)),
            (TypeDefKind::Result(theirs), TypeDefKind::Result(ours)) => {
                self.same_option(theirs.ok.as_ref(), ours.ok.as_ref()) && self.same_option(theirs.err.as_ref(), ours.err.as_ref())
            }
            (TypeDefKind::Option(theirs), TypeDefKind::Option(ours)) | (TypeDefKind::List(theirs), TypeDefKind::List(ours)) => self.same(theirs, ours),
            // The contract has no other kinds.
            _ => false,
        }
    }
}

/// A type without the aliases around it.
fn bare(resolve: &Resolve, ty: &Type) -> Type {
    let mut ty = *ty;
    while let Type::Id(id) = ty {
        match &resolve.types[id].kind {
            TypeDefKind::Type(inner) => ty = *inner,
            _ => break,
        }
    }
    ty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_run_are_those_of_the_wit_files() {
        let version = CONTRACT.packages.iter().find_map(|(_, package)| package.name.version.as_ref()).unwrap().to_string();
        assert_eq!(CONTRACT_VERSIONS.last(), Some(&version.as_str()));
    }
}
