//! Components by digest: loaded once however many ask at the same time, kept while they are used.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::Inspection;
use tower_domain::step::HostTrouble;

use super::compile::{CompileError, Compiled, Compiler, Patience};
use super::component::{LoadedComponent, Loader};
use super::images::{Found, Images};
use super::inspect::{InspectError, digest};
use super::settings::{SetupError, WasmConfig};

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
    /// Too many others wait to be compiled.
    #[error("too many modules wait to be compiled; try again later")]
    Busy,
    /// It is none that runs here.
    #[error(transparent)]
    Refused(#[from] InspectError),
    /// It could not be looked at just now.
    #[error(transparent)]
    Trouble(#[from] HostTrouble),
}

impl From<CompileError> for LoadError {
    fn from(error: CompileError) -> Self {
        match error {
            CompileError::Refused(refused) => Self::Refused(refused),
            CompileError::Busy => Self::Busy,
            CompileError::Trouble(trouble) => Self::Trouble(trouble),
        }
    }
}

/// A module that is ready, or why it never will be.
type Loaded = Result<(Arc<LoadedComponent>, Arc<Inspection>), InspectError>;

/// The modules that are ready, and those that were refused: bytes that cost a long compilation to refuse do so once.
pub(crate) struct Modules {
    loader: Loader,
    compiler: Compiler,
    images: Option<Images>,
    source: Arc<dyn ModuleSource>,
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

/// Who wants a module, and how its bytes are come by.
enum Wanted {
    /// A caller hands them over.
    Upload(Bytes),
    /// A step has its module fetched.
    Step,
}

impl Modules {
    pub(crate) fn new(loader: Loader, config: &WasmConfig, source: Arc<dyn ModuleSource>) -> Result<Self, SetupError> {
        let images = config.images.as_ref().map(|folder| {
            let opened = Images::open(folder, &loader.engine, config.images_bytes_max, config.compile_limits);
            opened.map_err(|source| SetupError::Images { path: folder.clone(), source })
        });
        let images = images.transpose()?;
        let folder = images.as_ref().map_or_else(std::env::temp_dir, |images| images.folder().to_owned());
        Ok(Self {
            loader,
            compiler: Compiler::new(config, folder),
            images,
            source,
            modules_max: config.modules_max,
            code_bytes_max: config.code_bytes_max,
            shelf: Mutex::default(),
        })
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
    pub(crate) async fn get(self: &Arc<Self>, wanted: Digest) -> Result<Arc<LoadedComponent>, LoadError> {
        let cell = self.cell(wanted);
        if let Some(loaded) = cell.get() {
            return Ok(Arc::clone(&loaded.as_ref().map_err(Clone::clone)?.0));
        }
        Ok(self.fill(wanted, cell, Wanted::Step).await?.0)
    }

    /// Loads from bytes that are at hand.
    pub(crate) async fn prepare(self: &Arc<Self>, bytes: Bytes) -> Result<Arc<Inspection>, LoadError> {
        let hashed = bytes.clone();
        let digest = self.on_a_thread(move |_| digest(&hashed)).await?;
        let cell = self.cell(digest);
        Ok(self.fill(digest, cell, Wanted::Upload(bytes)).await?.1)
    }

    /// Loads once, however many wait, and goes on when they go away. A refusal is an answer and kept; trouble is none, so that the next
    /// who asks tries again.
    async fn fill(self: &Arc<Self>, digest: Digest, cell: Arc<OnceCell<Loaded>>, wanted: Wanted) -> Result<(Arc<LoadedComponent>, Arc<Inspection>), LoadError> {
        let this = Arc::clone(self);
        let loading = tokio::spawn(async move {
            let filled = cell.get_or_try_init(|| this.load(digest, wanted)).await.cloned();
            if filled.is_ok() {
                this.make_room(&digest);
            } else {
                this.clear(&digest, &cell);
            }
            filled
        });
        let loaded = loading.await.map_err(|error| HostTrouble(format!("the module was not loaded: {error}")))?;
        Ok(loaded??)
    }

    async fn load(self: &Arc<Self>, digest: Digest, wanted: Wanted) -> Result<Loaded, LoadError> {
        if let Some(found) = self.kept(digest).await? {
            return Ok(found);
        }
        let (bytes, patience) = match wanted {
            Wanted::Upload(bytes) => (bytes, Patience::Caller),
            Wanted::Step => (self.fetch(digest).await?, Patience::Step),
        };
        match self.compiler.compile(bytes, patience).await {
            Ok(compiled) => match self.on_a_thread(move |this| this.take(digest, compiled)).await? {
                Ok(loaded) => Ok(Ok(loaded)),
                Err(CompileError::Refused(refused)) => Ok(Err(refused)),
                Err(error) => Err(error.into()),
            },
            Err(CompileError::Refused(refused)) => {
                let kept = refused.clone();
                self.on_a_thread(move |this| this.keep_refusal(digest, &kept)).await?;
                Ok(Err(refused))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// From the images that are kept.
    async fn kept(self: &Arc<Self>, digest: Digest) -> Result<Option<Loaded>, LoadError> {
        if self.images.is_none() {
            return Ok(None);
        }
        self.on_a_thread(move |this| this.kept_now(&digest)).await?
    }

    fn kept_now(&self, digest: &Digest) -> Result<Option<Loaded>, LoadError> {
        let Some(images) = &self.images else { return Ok(None) };
        let (path, inspection) = match images.find(digest) {
            None => return Ok(None),
            Some(Found::Refused(refused)) => return Ok(Some(Err(refused))),
            Some(Found::Image(path, inspection)) => (path, inspection),
        };
        // SAFETY: `find` gives out what this host has made and nobody has changed since; nobody but the host writes there.
        match unsafe { self.loader.load(&path, inspection.aggregates) } {
            Ok(component) => Ok(Some(Ok((Arc::new(component), Arc::new(inspection))))),
            Err(CompileError::Refused(error)) => {
                tracing::warn!(%digest, %error, "a native image that was kept cannot be loaded; the module is compiled again");
                images.forget(digest);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch(self: &Arc<Self>, wanted: Digest) -> Result<Bytes, LoadError> {
        let bytes = self.source.bytes(&wanted).await?.ok_or(LoadError::Unknown)?;
        let hashed = bytes.clone();
        if self.on_a_thread(move |_| digest(&hashed)).await? != wanted {
            return Err(HostTrouble(format!("the bytes that are kept as module {wanted} are others; push the module again")).into());
        }
        Ok(bytes)
    }

    /// Loads what was compiled, and keeps it.
    fn take(&self, digest: Digest, compiled: Compiled) -> Result<(Arc<LoadedComponent>, Arc<Inspection>), CompileError> {
        // SAFETY: the file was written by this process from what its worker said, and has no name that others know of.
        let component = unsafe { self.loader.load(compiled.image.path(), compiled.inspection.aggregates) }?;
        let inspection = compiled.inspection.clone();
        if let Some(images) = &self.images
            && let Err(error) = images.keep(&digest, compiled)
        {
            tracing::warn!(%digest, %error, "a native image was not kept: the module will be compiled again at the next start");
        }
        Ok((Arc::new(component), Arc::new(inspection)))
    }

    /// Only what the compiler refused: everything else is told from the bytes within milliseconds.
    fn keep_refusal(&self, digest: Digest, refused: &InspectError) {
        if let (Some(images), InspectError::CompileLimit(_)) = (&self.images, refused)
            && let Err(error) = images.keep_refusal(&digest, refused)
        {
            tracing::warn!(%digest, %error, "a refusal was not kept");
        }
    }

    /// Files block, and so does loading machine code.
    async fn on_a_thread<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce(&Self) -> T + Send + 'static) -> Result<T, LoadError> {
        let this = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        Ok(done.map_err(|error| HostTrouble(format!("the module was not loaded: {error}")))?)
    }

    /// Takes off the shelf what came to nothing, unless somebody else is just trying.
    fn clear(&self, digest: &Digest, cell: &Arc<OnceCell<Loaded>>) {
        let mut shelf = self.shelf.lock();
        let ours = shelf.entries.get(digest).is_some_and(|entry| Arc::ptr_eq(&entry.cell, cell));
        // The shelf's own and this one.
        if ours && !cell.initialized() && Arc::strong_count(cell) == 2 {
            shelf.entries.remove(digest);
        }
    }

    /// Compiles no more.
    pub(crate) fn close(&self) {
        self.compiler.close();
    }

    fn cell(&self, digest: Digest) -> Arc<OnceCell<Loaded>> {
        let mut shelf = self.shelf.lock();
        shelf.uses += 1;
        let last_use = shelf.uses;
        let entry = shelf.entries.entry(digest).or_insert_with(|| Entry { cell: Arc::default(), last_use });
        entry.last_use = last_use;
        Arc::clone(&entry.cell)
    }

    /// Drops what was not used for longest, until both bounds hold. What runs is kept alive by those who run it.
    fn make_room(&self, keep: &Digest) {
        let mut shelf = self.shelf.lock();
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
