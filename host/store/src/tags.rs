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

/// How long an answer is believed where other processes may move tags too. What this one moves is known at once. One of those who want to know
/// then looks; the others go by the old answer meanwhile, but no longer than for as long again.
const BELIEVED_FOR: Duration = Duration::from_millis(50);
/// Tags that are remembered. With so many, asking for each again does not count.
const TAGS_MAX: usize = 10_000;

/// A store of modules that remembers where tags point.
pub struct RememberedTags {
    store: Arc<dyn ModuleStore>,
    shared: bool,
    memory: RwLock<Memory>,
}

/// Where a tag pointed.
struct Answer {
    read_at: Instant,
    digest: Digest,
    /// When somebody began to look anew.
    asked_at: Option<Instant>,
}

impl Answer {
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < BELIEVED_FOR
    }

    /// Whether somebody else is looking, and it will do until then.
    fn will_do(&self) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() < BELIEVED_FOR) && self.read_at.elapsed() < 2 * BELIEVED_FOR
    }
}

#[derive(Default)]
struct Memory {
    tags: HashMap<ModuleRef, Answer>,
    /// Raised by every change: what was read before one is not kept after it.
    changes: u64,
}

impl RememberedTags {
    /// In front of another. `shared`: other processes may move tags of it too.
    pub fn of(store: Arc<dyn ModuleStore>, shared: bool) -> Self {
        Self { store, shared, memory: RwLock::default() }
    }

    /// Where it is known to point; else how many changes there were before the database is asked.
    fn known(&self, module: &ModuleRef) -> Result<Digest, u64> {
        {
            let memory = self.memory.read();
            match memory.tags.get(module) {
                Some(answer) if !self.shared || answer.is_fresh() => return Ok(answer.digest),
                Some(_) => {}
                None => return Err(memory.changes),
            }
        }
        let mut memory = self.memory.write();
        let changes = memory.changes;
        match memory.tags.get_mut(module) {
            Some(answer) if answer.is_fresh() || answer.will_do() => Ok(answer.digest),
            Some(answer) => {
                answer.asked_at = Some(Instant::now());
                Err(changes)
            }
            None => Err(changes),
        }
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
        let seen = match self.known(module) {
            Ok(digest) => return Ok(Some(digest)),
            Err(changes) => changes,
        };
        let read_at = Instant::now();
        let found = self.store.resolve(module).await?;
        let mut memory = self.memory.write();
        match found {
            Some(digest) if memory.changes == seen => {
                if memory.tags.len() >= TAGS_MAX {
                    memory.tags.clear();
                }
                memory.tags.insert(module.clone(), Answer { read_at, digest, asked_at: None });
            }
            Some(_) => {}
            None => drop(memory.tags.remove(module)),
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
