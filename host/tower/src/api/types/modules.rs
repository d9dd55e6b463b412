//! Modules in bodies.

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::Digest;
use tower_domain::module::{Module, ModuleTag};
use tower_domain::name::Name;
use utoipa::ToSchema;

/// An uploaded component.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Module)]
pub(crate) struct ModuleBody {
    /// The name that it was asked for by.
    #[schema(value_type = String)]
    pub(crate) name: Name,
    /// The tag that it was asked for by; null: by its digest.
    #[schema(value_type = Option<String>)]
    pub(crate) tag: Option<Name>,
    /// SHA-256 of its bytes: its identity.
    #[schema(value_type = String, example = "sha256:9f2c…")]
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
    /// Version of the contract that it was built against.
    pub(crate) contract: String,
    /// Interfaces that it exports.
    pub(crate) exports: Vec<String>,
    /// Interfaces that it imports.
    pub(crate) imports: Vec<String>,
    /// What its imports need a definition to grant.
    pub(crate) capabilities: Vec<String>,
    /// Whether it folds results itself.
    pub(crate) aggregates: bool,
    /// The source language, where the component says so.
    pub(crate) language: Option<String>,
    pub(crate) created_by: String,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
}

impl ModuleBody {
    /// A module, under the name and tag that it was asked for by.
    pub(crate) fn of(name: Name, tag: Option<Name>, module: Module) -> Self {
        let Module { inspection, created_by, created_at } = module;
        Self {
            name,
            tag,
            digest: inspection.digest,
            size_bytes: inspection.size_bytes,
            contract: inspection.contract,
            exports: inspection.exports,
            imports: inspection.imports,
            capabilities: inspection.capabilities,
            aggregates: inspection.aggregates,
            language: inspection.language,
            created_by,
            created_at,
        }
    }
}

/// A movable name for a module.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = ModuleTag)]
pub(crate) struct TagBody {
    #[schema(value_type = String)]
    pub(crate) name: Name,
    #[schema(value_type = String)]
    pub(crate) tag: Name,
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: Timestamp,
}

impl From<ModuleTag> for TagBody {
    fn from(tag: ModuleTag) -> Self {
        let ModuleTag { name, tag, digest, updated_at } = tag;
        Self { name, tag, digest, updated_at }
    }
}

/// A name, and what is under it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct NamedModules {
    #[schema(value_type = String)]
    pub(crate) name: Name,
    /// Where its tags point.
    pub(crate) tags: Vec<TagBody>,
    /// The modules that these tags point at.
    pub(crate) modules: Vec<ModuleBody>,
    /// Hand this to the next request as `cursor`; null: these were the last tags.
    #[serde(default)]
    pub(crate) next_cursor: Option<String>,
}

/// Where a tag is to point.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveTag {
    /// A module that has been uploaded.
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
}
