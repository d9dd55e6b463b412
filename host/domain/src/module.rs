//! Modules: uploaded components and what can be read from them without running them.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::code_ref::Digest;
use crate::name::Name;

/// What was read from a component's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Length of the bytes.
    pub size_bytes: u64,
    /// Version of the contract that it was built against, such as `0.1.0`.
    pub contract: String,
    /// Interfaces that it exports, such as `command-tower:agent/step@0.1.0`.
    pub exports: Vec<String>,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// What its imports need a definition to grant, as words: `workspace`.
    pub capabilities: Vec<String>,
    /// Whether it exports `aggregate`.
    pub aggregates: bool,
    /// The component's world as WIT text.
    pub wit: String,
    /// The source language, where the component says so.
    pub language: Option<String>,
}

/// An uploaded component. Stored once a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// What the bytes say.
    pub inspection: Inspection,
    /// Who uploaded it first.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// A movable name for a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleTag {
    /// The module's name.
    pub name: Name,
    /// The tag.
    pub tag: Name,
    /// Where it points.
    pub digest: Digest,
    /// When it was last moved.
    pub updated_at: Timestamp,
}
