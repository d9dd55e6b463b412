//! Components by digest: loaded once however many ask at the same time, kept while they are used.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OnceCell, Semaphore};
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::Inspection;
use tower_domain::step::HostTrouble;
use wasmtime::Engine;
use wasmtime::component::Linker;

use super::compile::{LoadedComponent, load};
use super::guest_runtime::GuestRuntime;
use super::guest_state::GuestState;
use super::inspect::{InspectError, digest};
use super::settings::WasmConfig;

/// Where modules are kept.
#[async_trait]
pub trait ModuleSource: Send + Sync {
    /// Which module a reference stands for at this moment; none: there is no such module. A digest stands for itself, if there is such a module.
    async fn resolve(&self, module: &ModuleRef) -> Result<Option<Digest>, HostTrouble>;

    /// The bytes of a module; none: there is no such module.
    async fn bytes(&self, digest: &Digest) -> Result<Option<Bytes>, HostTrouble>;
}

/// Why a module could not be made ready.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// There is none.
    #[error("there is no such module")]
    Unknown,
    /// It is none that runs here.
    #[error(transparent)]
    Refused(#[from] InspectError),
    /// It could not be looked at just now.
    #[error(transparent)]
    Trouble(#[from] HostTrouble),
}

type Loaded = Result<(Arc<LoadedComponent>, Arc<Inspection>), InspectError>;

/// The modules that are ready, and those that were refused: bytes that cost a long compilation to refuse do so once.
pub(crate) struct Modules {
    engine: Engine,
    linker: Arc<Linker<GuestState>>,
    slots: u32,
    source: Arc<dyn ModuleSource>,
    compiles: Arc<Semaphore>,
    modules_max: usize,
    code_bytes_max: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    entries: HashMap<Digest, Entry>,
    /// Counts uses, so that the least recently used can be told.
    uses: u64,
}

struct Entry {
    cell: Arc<OnceCell<Loaded>>,
    last_use: u64,
}

impl Modules {
    pub(crate) fn new(engine: Engine, linker: Linker<GuestState>, slots: u32, config: &WasmConfig, source: Arc<dyn ModuleSource>) -> Self {
        Self {
            engine,
            linker: Arc::new(linker),
            slots,
            source,
            compiles: Arc::new(Semaphore::new(config.compiles_at_once)),
            modules_max: config.modules_max,
            code_bytes_max: config.code_bytes_max,
            shelf: Mutex::default(),
        }
    }

    pub(crate) async fn resolve(&self, module: &ModuleRef) -> Result<Digest, LoadError> {
        match module {
            ModuleRef::Digest(digest) => Ok(*digest),
            ModuleRef::Tag { .. } => self.source.resolve(module).await?.ok_or(LoadError::Unknown),
        }
    }

    /// Whether there is such a module; without loading it.
    pub(crate) async fn exists(&self, module: &ModuleRef) -> Result<(), LoadError> {
        self.source.resolve(module).await?.ok_or(LoadError::Unknown).map(drop)
    }

    /// The module, loaded if it is not yet.
    pub(crate) async fn get(&self, wanted: Digest, runtime: &GuestRuntime) -> Result<Arc<LoadedComponent>, LoadError> {
        let cell = self.cell(wanted);
        if let Some(loaded) = cell.get() {
            return Ok(Arc::clone(&loaded.as_ref().map_err(Clone::clone)?.0));
        }
        let fetch = async {
            let bytes = self.source.bytes(&wanted).await?.ok_or(LoadError::Unknown)?;
            if digest(&bytes) != wanted {
                return Err(HostTrouble(format!("the bytes that are kept as module {wanted} are others; push the module again")).into());
            }
            self.load(bytes, runtime).await
        };
        Ok(self.fill(wanted, &cell, fetch).await?.0)
    }

    /// Loads from bytes that are at hand.
    pub(crate) async fn prepare(&self, bytes: Bytes, runtime: &GuestRuntime) -> Result<Arc<Inspection>, LoadError> {
        let digest = digest(&bytes);
        let cell = self.cell(digest);
        Ok(self.fill(digest, &cell, self.load(bytes, runtime)).await?.1)
    }

    /// A refusal is an answer and kept; trouble is none, so that the next who asks tries again.
    async fn fill(
        &self,
        digest: Digest,
        cell: &OnceCell<Loaded>,
        load: impl Future<Output = Result<Loaded, LoadError>>,
    ) -> Result<(Arc<LoadedComponent>, Arc<Inspection>), LoadError> {
        let filled = cell.get_or_try_init(|| load).await;
        match filled {
            Ok(loaded) => {
                self.make_room(&digest);
                Ok(loaded.clone()?)
            }
            Err(error) => {
                let mut shelf = self.shelf();
                if shelf.entries.get(&digest).is_some_and(|entry| !entry.cell.initialized()) {
                    shelf.entries.remove(&digest);
                }
                Err(error)
            }
        }
    }

    async fn load(&self, bytes: Bytes, runtime: &GuestRuntime) -> Result<Loaded, LoadError> {
        let stopping = || LoadError::Trouble(HostTrouble("the sandbox is shutting down".to_owned()));
        let permit = Arc::clone(&self.compiles).acquire_owned().await.map_err(|_| stopping())?;
        let (engine, linker, slots) = (self.engine.clone(), Arc::clone(&self.linker), self.slots);
        let loading = runtime.handle().spawn_blocking(move || {
            // Held in here: whoever waits may go away, the compilation does not.
            let _permit = permit;
            let (inspection, component) = load(&engine, &linker, &bytes)?;
            if component.slots > slots {
                let text = format!("one run takes {} slots of the sandbox, and it has {slots}; raise `slots`", component.slots);
                return Err(InspectError::StaticLimit(text));
            }
            Ok((Arc::new(component), Arc::new(inspection)))
        });
        match loading.await {
            Ok(loaded) => Ok(loaded),
            Err(error) if error.is_panic() => Ok(Err(InspectError::CompileLimit("the compiler cannot cope with it".to_owned()))),
            Err(_) => Err(stopping()),
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock()
    }

    fn cell(&self, digest: Digest) -> Arc<OnceCell<Loaded>> {
        let mut shelf = self.shelf();
        shelf.uses += 1;
        let last_use = shelf.uses;
        let entry = shelf.entries.entry(digest).or_insert_with(|| Entry { cell: Arc::default(), last_use });
        entry.last_use = last_use;
        Arc::clone(&entry.cell)
    }

    /// Drops what was not used for longest, until both bounds hold. What runs is kept alive by those who run it.
    fn make_room(&self, keep: &Digest) {
        let mut shelf = self.shelf();
        loop {
            let code_bytes: usize = shelf.entries.values().map(Entry::code_bytes).sum();
            if shelf.entries.len() <= self.modules_max && code_bytes <= self.code_bytes_max {
                return;
            }
            let idle = shelf.entries.iter().filter(|(digest, entry)| *digest != keep && entry.is_idle());
            let Some(oldest) = idle.min_by_key(|(_, entry)| entry.last_use).map(|(digest, _)| *digest) else { return };
            shelf.entries.remove(&oldest);
        }
    }
}

impl Entry {
    /// Whether nobody waits for it to be loaded.
    fn is_idle(&self) -> bool {
        self.cell.initialized() || Arc::strong_count(&self.cell) == 1
    }

    fn code_bytes(&self) -> usize {
        self.cell.get().and_then(|loaded| loaded.as_ref().ok()).map_or(0, |(component, _)| component.code_bytes)
    }
}
