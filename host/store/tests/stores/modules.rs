//! Modules and tags.

use std::time::Duration;

use tower_domain::code_ref::{Digest, ModuleRef};
use tower_domain::module::{Inspection, Module};
use tower_store::read::PageRequest;

use tower_store::modules::{ModuleStore, TagMove};
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
    let (store, remembered) = (&world.stores.modules, RememberedTags::of(world.stores.modules.clone()));
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
