//! Definitions.

use std::time::Duration;

use tower_domain::definition::DefinitionSpec;
use tower_store::definitions::{DefinitionFilter, Put};
use tower_store::read::PageRequest;

use crate::world::{World, definition, name};

fn spec(role: &str) -> DefinitionSpec {
    DefinitionSpec { role: role.to_owned(), ..definition("x").spec.clone() }
}

pub(crate) async fn each_change_is_a_version(world: World) {
    let store = &world.stores.definitions;
    let (id, made) = (name("d"), world.now());
    let Put::Created(first) = store.put(&id, &spec("a"), None, made).await.unwrap() else { panic!("not created") };
    assert_eq!((first.version, first.created_at, first.updated_at), (1, made, made));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(store.put(&id, &spec("a"), None, world.now()).await.unwrap(), Put::Unchanged(first.clone()));
    let Put::Updated(second) = store.put(&id, &spec("b"), None, world.now()).await.unwrap() else { panic!("not updated") };
    assert_eq!((second.version, second.created_at, second.updated_at), (2, made, world.now()));
    assert_eq!(store.find(&id).await.unwrap(), Some(second.clone()));
    assert_eq!(store.find_version(&id, 1).await.unwrap(), Some(first));
    assert_eq!(store.find_version(&id, 2).await.unwrap(), Some(second));
    assert_eq!(store.find_version(&id, 3).await.unwrap(), None);
    assert_eq!(store.find(&name("e")).await.unwrap(), None);
}

pub(crate) async fn an_expected_version_is_held_against_the_current_one(world: World) {
    let store = &world.stores.definitions;
    let id = name("d");
    assert_eq!(store.put(&id, &spec("a"), Some(1), world.now()).await.unwrap(), Put::Stale { current: 0 });
    assert!(matches!(store.put(&id, &spec("a"), Some(0), world.now()).await.unwrap(), Put::Created(_)));
    assert_eq!(store.put(&id, &spec("b"), Some(0), world.now()).await.unwrap(), Put::Stale { current: 1 });
    assert_eq!(store.put(&id, &spec("a"), Some(0), world.now()).await.unwrap(), Put::Stale { current: 1 });
    assert!(matches!(store.put(&id, &spec("a"), Some(1), world.now()).await.unwrap(), Put::Unchanged(_)));
    assert!(matches!(store.put(&id, &spec("b"), Some(1), world.now()).await.unwrap(), Put::Updated(_)));
    // Two at once: one of them wins.
    let (c, d) = (spec("c"), spec("d"));
    let (one, other) = tokio::join!(store.put(&id, &c, Some(2), world.now()), store.put(&id, &d, Some(2), world.now()));
    let updated = [one.unwrap(), other.unwrap()].iter().filter(|put| matches!(put, Put::Updated(_))).count();
    assert_eq!(updated, 1);
}

pub(crate) async fn the_version_of_an_instant_is_found(world: World) {
    let store = &world.stores.definitions;
    let id = name("d");
    let before = world.now();
    let mut instants = Vec::new();
    for role in ["a", "b", "c"] {
        world.clock.advance(Duration::from_secs(10));
        instants.push(world.now());
        store.put(&id, &spec(role), None, world.now()).await.unwrap();
    }
    let as_of = |at| {
        let (store, id) = (store.clone(), id.clone());
        async move { store.find_as_of(&id, at).await.unwrap().map(|definition| definition.version) }
    };
    assert_eq!(as_of(before).await, Some(1));
    for (index, at) in instants.iter().enumerate() {
        assert_eq!(as_of(*at).await, Some(index as u32 + 1));
        assert_eq!(as_of(at.plus(Duration::from_secs(5))).await, Some(index as u32 + 1));
    }
    assert_eq!(store.find_as_of(&name("e"), before).await.unwrap(), None);
}

pub(crate) async fn definitions_are_listed_by_page(world: World) {
    let store = &world.stores.definitions;
    for (id, user, active) in [("a", "u", true), ("b", "v", true), ("c", "u", false), ("d", "u", true)] {
        store.put(&name(id), &DefinitionSpec { user_id: user.to_owned(), is_active: active, ..spec("r") }, None, world.now()).await.unwrap();
    }
    let list = |filter: DefinitionFilter, after: Option<&str>, limit| {
        let (store, after) = (store.clone(), after.map(name));
        async move {
            let page = store.list(&filter, &PageRequest { after, limit }).await.unwrap();
            (page.items.into_iter().map(|definition| definition.id.to_string()).collect::<Vec<_>>(), page.next.map(|name| name.to_string()))
        }
    };
    let any = DefinitionFilter::default;
    assert_eq!(list(any(), None, 3).await, (vec!["a".into(), "b".into(), "c".into()], Some("c".into())));
    assert_eq!(list(any(), Some("c"), 3).await, (vec!["d".into()], None));
    assert_eq!(list(DefinitionFilter { user_id: Some("u".into()), active: None }, None, 10).await.0, ["a", "c", "d"]);
    assert_eq!(list(DefinitionFilter { user_id: Some("u".into()), active: Some(true) }, Some("a"), 10).await.0, ["d"]);
    assert_eq!(list(DefinitionFilter { user_id: None, active: Some(false) }, None, 10).await.0, ["c"]);
    store.put(&name("c"), &DefinitionSpec { user_id: "v".into(), ..spec("r") }, None, world.now()).await.unwrap();
    assert_eq!(list(DefinitionFilter { user_id: Some("v".into()), active: Some(true) }, None, 10).await.0, ["b", "c"]);
}
