//! Definitions in memory, and their schemas compiled once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::time::Instant;
use tower_domain::clock::Timestamp;
use tower_domain::definition::Definition;
use tower_domain::json::Json;
use tower_domain::name::Name;
use tower_domain::split::Definitions;
use tower_store::StoreError;
use tower_store::definitions::DefinitionStore;

use crate::hosts::LOOK_EVERY;
use crate::orders::ParamError;

/// Most errors that one check of params reports.
const PARAM_ERRORS_MAX: usize = 20;

/// A definition with its compiled schema.
pub(crate) struct Loaded {
    pub(crate) definition: Arc<Definition>,
    schema: Option<jsonschema::Validator>,
}

impl Loaded {
    fn new(definition: Definition) -> Result<Self, StoreError> {
        let schema = definition.spec.params_schema.as_ref().map(compile).transpose();
        let schema = schema.map_err(|what| StoreError::Inconsistent { table: "definitions", what: format!("schema of {}: {what}", definition.id) })?;
        Ok(Self { definition: Arc::new(definition), schema })
    }

    /// What in the params does not fit the schema.
    pub(crate) fn check(&self, params: &Json) -> Vec<ParamError> {
        match &self.schema {
            Some(schema) => errors_of(schema, params),
            None => Vec::new(),
        }
    }
}

/// Compiles a JSON Schema (draft 2020-12). References to other documents are refused.
pub(crate) fn compile(schema: &Json) -> Result<jsonschema::Validator, String> {
    let value: serde_json::Value = schema.read().map_err(|error| error.to_string())?;
    jsonschema::draft202012::new(&value).map_err(|error| error.to_string())
}

/// What in the params does not fit.
pub(crate) fn errors_of(schema: &jsonschema::Validator, params: &Json) -> Vec<ParamError> {
    match params.read::<serde_json::Value>() {
        Ok(value) => {
            let errors = schema.iter_errors(&value).take(PARAM_ERRORS_MAX);
            errors.map(|error| ParamError { pointer: error.instance_path().to_string(), message: tower_domain::task::clean(&error.to_string(), 300) }).collect()
        }
        Err(error) => vec![ParamError { pointer: String::new(), message: error.to_string() }],
    }
}

/// What was loaded so far.
pub(crate) struct Catalog {
    store: Arc<dyn DefinitionStore>,
    current: RwLock<HashMap<Name, (Instant, Arc<Loaded>)>>,
    versions: RwLock<HashMap<(Name, u32), Arc<Loaded>>>,
    /// Raised by every change: what was read before one is not kept after it.
    changes: AtomicU64,
    /// Whether other hosts may change definitions: then what was read is only believed for a second, in case nobody told of it.
    shared: bool,
}

impl Catalog {
    pub(crate) fn new(store: Arc<dyn DefinitionStore>, shared: bool) -> Self {
        Self { store, current: RwLock::default(), versions: RwLock::default(), changes: AtomicU64::new(0), shared }
    }

    /// A definition has changed.
    pub(crate) fn forget(&self, id: &Name) {
        let mut current = self.current.write();
        self.changes.fetch_add(1, Ordering::SeqCst);
        current.remove(id);
    }

    /// Some definition has changed.
    pub(crate) fn forget_all(&self) {
        let mut current = self.current.write();
        self.changes.fetch_add(1, Ordering::SeqCst);
        current.clear();
    }

    /// The current version.
    pub(crate) async fn current(&self, id: &Name) -> Result<Option<Arc<Loaded>>, StoreError> {
        if let Some((read_at, loaded)) = self.current.read().get(id)
            && (!self.shared || read_at.elapsed() < LOOK_EVERY)
        {
            return Ok(Some(loaded.clone()));
        }
        let (seen, read_at) = (self.changes.load(Ordering::SeqCst), Instant::now());
        let Some(definition) = self.store.find(id).await? else { return Ok(None) };
        let loaded = self.keep(definition)?;
        let mut current = self.current.write();
        if self.changes.load(Ordering::SeqCst) == seen {
            current.insert(id.clone(), (read_at, loaded.clone()));
        }
        Ok(Some(loaded))
    }

    /// One version.
    pub(crate) async fn version(&self, id: &Name, version: u32) -> Result<Option<Arc<Loaded>>, StoreError> {
        if let Some(loaded) = self.versions.read().get(&(id.clone(), version)) {
            return Ok(Some(loaded.clone()));
        }
        self.store.find_version(id, version).await?.map(|definition| self.keep(definition)).transpose()
    }

    /// The version that a trace made at `at` runs.
    pub(crate) async fn as_of(&self, id: &Name, at: Timestamp) -> Result<Option<Arc<Loaded>>, StoreError> {
        match self.current(id).await? {
            None => Ok(None),
            Some(current) if current.definition.updated_at <= at => Ok(Some(current)),
            Some(_) => self.store.find_as_of(id, at).await?.map(|definition| self.keep(definition)).transpose(),
        }
    }

    fn keep(&self, definition: Definition) -> Result<Arc<Loaded>, StoreError> {
        let key = (definition.id.clone(), definition.version);
        let mut versions = self.versions.write();
        if let Some(loaded) = versions.get(&key) {
            return Ok(loaded.clone());
        }
        let loaded = Arc::new(Loaded::new(definition)?);
        versions.insert(key, loaded.clone());
        Ok(loaded)
    }
}

/// The definitions that one split call names.
pub(crate) struct Fetched(pub(crate) HashMap<Name, Arc<Loaded>>);

impl Definitions for Fetched {
    fn find(&self, name: &Name) -> Option<Arc<Definition>> {
        self.0.get(name).map(|loaded| loaded.definition.clone()).filter(|definition| definition.spec.is_active)
    }

    fn check_params(&self, definition: &Definition, params: &Json) -> Result<(), String> {
        let errors = self.0.get(&definition.id).map(|loaded| loaded.check(params)).unwrap_or_default();
        match errors.first() {
            None => Ok(()),
            Some(first) if first.pointer.is_empty() => Err(first.message.clone()),
            Some(first) => Err(format!("{}: {}", first.pointer, first.message)),
        }
    }
}
