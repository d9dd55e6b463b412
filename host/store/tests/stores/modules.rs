//! Modules and tags.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tower_domain::clock::Timestamp;
use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::{Inspection, Module, ModuleTag};
use tower_domain::name::Name;
use tower_store::StoreError;
use tower_store::modules::{ModuleStore, TagMove};
use tower_store::read::{Page, PageRequest};
use tower_store::tags::RememberedTags;

use crate::world::{World, name};

fn module(world: &World, byte: u8) -> Module {
    let inspection = Inspection {
        digest: Digest([byte; 32]),
        size_bytes: 12,
        contract: "0.1.0".to_owned(),
        exports: vec!["command-tower:agent/step@0.1.0".to_owned()],
        imports: Vec::new(),
        capabilities: Vec::new(),
        aggregates: false,
        wit: "world x {}".to_owned(),
        language: None,
    };
    Module { inspection, created_by: "ada".to_owned(), created_at: world.now() }
}

pub(crate) async fn a_module_is_registered_once(world: World) {
    let store = &world.stores.modules;
    let first = module(&world, 1);
    assert!(store.add(&first, &name("m"), &[name("latest"), name("v1")], world.now()).await.unwrap());
    let again = Module { created_by: "eve".to_owned(), ..first.clone() };
    assert!(!store.add(&again, &name("n"), &[name("latest")], world.now()).await.unwrap());
    assert_eq!(store.find(&first.inspection.digest).await.unwrap(), Some(first));
    assert_eq!(store.find(&Digest([9; 32])).await.unwrap(), None);
    assert_eq!(store.resolve(&"n".parse::<ModuleRef>().unwrap()).await.unwrap(), Some(Digest([1; 32])));
    assert_eq!(store.resolve(&ModuleRef::Digest(Digest([1; 32]))).await.unwrap(), Some(Digest([1; 32])));
    assert_eq!(store.resolve(&ModuleRef::Digest(Digest([9; 32]))).await.unwrap(), None);
    assert_eq!(store.resolve(&"m:v2".parse::<ModuleRef>().unwrap()).await.unwrap(), None);
}

pub(crate) async fn a_tag_moves(world: World) {
    let store = &world.stores.modules;
    for byte in [1, 2] {
        store.add(&module(&world, byte), &name("m"), &[name("latest")], world.now()).await.unwrap();
        world.clock.advance(Duration::from_secs(1));
    }
    let latest: ModuleRef = "m".parse().unwrap();
    assert_eq!(store.resolve(&latest).await.unwrap(), Some(Digest([2; 32])));
    let moved = world.now();
    let (first, unknown) = (Digest([1; 32]), Digest([9; 32]));
    let latest = name("latest");
    assert_eq!(store.set_tag(&name("m"), &latest, &first, None, moved).await.unwrap(), TagMove::Moved);
    assert_eq!(store.set_tag(&name("m"), &latest, &unknown, None, world.now()).await.unwrap(), TagMove::UnknownModule);
    // Only from where it was expected to point.
    assert_eq!(store.set_tag(&name("m"), &latest, &first, Some(&unknown), world.now()).await.unwrap(), TagMove::Stale { current: Some(first) });
    assert_eq!(store.set_tag(&name("m"), &name("no"), &first, Some(&first), world.now()).await.unwrap(), TagMove::Stale { current: None });
    assert_eq!(store.set_tag(&name("m"), &latest, &first, Some(&first), moved).await.unwrap(), TagMove::Moved);
    let tags = store.tags(&name("m")).await.unwrap();
    assert_eq!((tags.len(), tags[0].digest, tags[0].updated_at), (1, Digest([1; 32]), moved));
}

pub(crate) async fn a_remembered_tag_moves(world: World) {
    let (store, remembered) = (&world.stores.modules, RememberedTags::of(world.stores.modules.clone(), true));
    let (latest, [first, second]) = ("m".parse::<ModuleRef>().unwrap(), [1, 2].map(|byte| Digest([byte; 32])));
    assert_eq!(remembered.resolve(&latest).await.unwrap(), None);
    for digest in [first, second] {
        remembered.add(&module(&world, digest.0[0]), &name("m"), &[name("latest")], world.now()).await.unwrap();
        assert_eq!(remembered.resolve(&latest).await.unwrap(), Some(digest), "what is not there is not remembered, and an upload is seen at once");
    }
    assert_eq!(remembered.set_tag(&name("m"), &name("latest"), &first, None, world.now()).await.unwrap(), TagMove::Moved);
    assert_eq!(remembered.resolve(&latest).await.unwrap(), Some(first), "what is moved here is seen at once");
    // What another host moves is seen soon.
    store.set_tag(&name("m"), &name("latest"), &second, None, world.now()).await.unwrap();
    let begun = std::time::Instant::now();
    while remembered.resolve(&latest).await.unwrap() != Some(second) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is believed for ever");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a step costs must not be found by a clock: how often the database is asked is counted.
pub(crate) async fn many_who_ask_at_once_have_the_database_asked_once(world: World) {
    let latest = "m".parse::<ModuleRef>().unwrap();
    for shared in [false, true] {
        let counted = Arc::new(Counted { store: world.stores.modules.clone(), asked: AtomicU32::new(0) });
        let remembered = RememberedTags::of(counted.clone(), shared);
        remembered.add(&module(&world, 1), &name("m"), &[name("latest")], world.now()).await.unwrap();
        assert_eq!(remembered.resolve(&latest).await.unwrap(), Some(Digest([1; 32])));
        // Longer than a shared answer is believed, and then all at once, three times.
        for round in 2..5 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let all = futures::future::join_all((0..50).map(|_| remembered.resolve(&latest))).await;
            assert!(all.into_iter().all(|found| found.unwrap() == Some(Digest([1; 32]))));
            let asked = counted.asked.load(Ordering::Relaxed);
            // A machine that stands still in between makes an answer too old even for those who would wait.
            assert!(if shared { asked < 50 } else { asked == 1 }, "{asked} in round {round}");
        }
    }
}

/// Counts how often it is asked where a tag points.
struct Counted {
    store: Arc<dyn ModuleStore>,
    asked: AtomicU32,
}

#[async_trait::async_trait]
impl ModuleStore for Counted {
    async fn add(&self, module: &Module, name: &Name, tags: &[Name], now: Timestamp) -> Result<bool, StoreError> {
        self.store.add(module, name, tags, now).await
    }

    async fn set_tag(&self, name: &Name, tag: &Name, digest: &Digest, expected: Option<&Digest>, now: Timestamp) -> Result<TagMove, StoreError> {
        self.store.set_tag(name, tag, digest, expected, now).await
    }

    async fn resolve(&self, module: &ModuleRef) -> Result<Option<Digest>, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.store.resolve(module).await
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

pub(crate) async fn tags_are_listed_by_page(world: World) {
    let store = &world.stores.modules;
    store.add(&module(&world, 1), &name("b"), &[name("z"), name("a")], world.now()).await.unwrap();
    store.add(&module(&world, 2), &name("a"), &[name("z")], world.now()).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(&PageRequest { after, limit: 2 }).await.unwrap();
        seen.extend(page.items.into_iter().map(|tag| format!("{}:{}", tag.name, tag.tag)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["a:z", "b:a", "b:z"]);
    assert_eq!(store.tags(&name("b")).await.unwrap().iter().map(|tag| tag.tag.to_string()).collect::<Vec<_>>(), ["a", "z"]);
}
