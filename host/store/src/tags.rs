//! Where tags point, remembered for a moment: the steps of a tree ask for the same few again and again, and each answer of the database
//! would cost more than such a step does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::RwLock;
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::{Module, ModuleTag};
use tower_domain::name::Name;

use crate::StoreError;
use crate::modules::{ModuleStore, TagMove};
use crate::read::{Page, PageRequest};

/// How long an answer is believed. What this process moves is known at once; this is for what others move.
const BELIEVED_FOR: Duration = Duration::from_millis(50);
/// Tags that are remembered. With so many, asking for each again does not count.
const TAGS_MAX: usize = 10_000;

/// A store of modules that remembers where tags point.
pub struct RememberedTags {
    store: Arc<dyn ModuleStore>,
    memory: RwLock<Memory>,
}

#[derive(Default)]
struct Memory {
    tags: HashMap<ModuleRef, (Instant, Digest)>,
    /// Raised by every change: what was read before one is not kept after it.
    changes: u64,
}

impl RememberedTags {
    /// In front of another.
    pub fn of(store: Arc<dyn ModuleStore>) -> Self {
        Self { store, memory: RwLock::default() }
    }

    fn forget(&self) {
        let mut memory = self.memory.write();
        memory.changes += 1;
        memory.tags.clear();
    }
}

#[async_trait]
impl ModuleStore for RememberedTags {
    async fn add(&self, module: &Module, name: &Name, tags: &[Name], now: Timestamp) -> Result<bool, StoreError> {
        let added = self.store.add(module, name, tags, now).await;
        // Whatever came of it: it may have been written all the same.
        self.forget();
        added
    }

    async fn set_tag(&self, name: &Name, tag: &Name, digest: &Digest, expected: Option<&Digest>, now: Timestamp) -> Result<TagMove, StoreError> {
        let moved = self.store.set_tag(name, tag, digest, expected, now).await;
        self.forget();
        moved
    }

    async fn resolve(&self, module: &ModuleRef) -> Result<Option<Digest>, StoreError> {
        if matches!(module, ModuleRef::Digest(_)) {
            return self.store.resolve(module).await;
        }
        let seen = {
            let memory = self.memory.read();
            match memory.tags.get(module) {
                Some((read_at, digest)) if read_at.elapsed() < BELIEVED_FOR => return Ok(Some(*digest)),
                _ => memory.changes,
            }
        };
        let read_at = Instant::now();
        let found = self.store.resolve(module).await?;
        let mut memory = self.memory.write();
        if let (Some(digest), true) = (found, memory.changes == seen) {
            if memory.tags.len() >= TAGS_MAX {
                memory.tags.clear();
            }
            memory.tags.insert(module.clone(), (read_at, digest));
        }
        Ok(found)
    }

    async fn find(&self, digest: &Digest) -> Result<Option<Module>, StoreError> {
        self.store.find(digest).await
    }

    async fn tags(&self, name: &Name) -> Result<Vec<ModuleTag>, StoreError> {
        self.store.tags(name).await
    }

    async fn list(&self, page: &PageRequest<(Name, Name)>) -> Result<Page<ModuleTag, (Name, Name)>, StoreError> {
        self.store.list(page).await
    }
}
