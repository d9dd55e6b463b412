//! Sessions, and traces that are part of them.

use std::time::Duration;

use tower_domain::code_ref::Digest;
use tower_domain::id::{IdSource, MonotonicIds, SessionId};
use tower_domain::session::{Session, SessionStatus};
use tower_domain::task::Output;
use tower_store::read::{PageRequest, TraceFilter};
use tower_store::sessions::{Closing, SessionFilter};
use tower_store::work::{Answer, Command, NewTrace, Settle, SettledEnd};

use crate::world::{World, json};

fn session(world: &World, ids: &impl IdSource, user: &str) -> Session {
    Session {
        id: ids.session(),
        user_id: user.to_owned(),
        sdk_session_id: Some("theirs".to_owned()),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        status: SessionStatus::Active,
        created_at: world.now(),
        last_used_at: world.now(),
        closed_at: None,
        quota_bytes: Some(1 << 40),
        files_max: None,
        bytes: 0,
        files: 0,
        archive: Vec::new(),
        purged: false,
    }
}

async fn new_session(world: &World) -> SessionId {
    let new = session(world, &MonotonicIds::new(world.clock.clone()), "ada");
    world.stores.sessions.create(&new).await.unwrap();
    new.id
}

async fn status(world: &World, id: SessionId) -> SessionStatus {
    world.stores.sessions.find(id).await.unwrap().unwrap().status
}

pub(crate) async fn sessions_are_kept_and_listed_by_page(world: World) {
    let (store, ids) = (&world.stores.sessions, MonotonicIds::new(world.clock.clone()));
    let mut made = Vec::new();
    for user in ["ada", "eve", "ada", "ada"] {
        let new = session(&world, &ids, user);
        store.create(&new).await.unwrap();
        assert_eq!(store.find(new.id).await.unwrap().as_ref(), Some(&new));
        made.push(new);
    }
    made.reverse();
    let first = store.list(&SessionFilter::default(), &PageRequest { after: None, limit: 3 }).await.unwrap();
    assert_eq!(first.items, made[..3]);
    let second = store.list(&SessionFilter::default(), &PageRequest { after: first.next, limit: 3 }).await.unwrap();
    assert_eq!((second.items.as_slice(), second.next), (&made[3..], None));
    let eves = SessionFilter { user_id: Some("eve".to_owned()), status: Some(SessionStatus::Active) };
    assert_eq!(store.list(&eves, &PageRequest { after: None, limit: 9 }).await.unwrap().items, [made[2].clone()]);
    let closed = SessionFilter { user_id: Some("eve".to_owned()), status: Some(SessionStatus::Closed) };
    assert!(store.list(&closed, &PageRequest { after: None, limit: 9 }).await.unwrap().items.is_empty());
    assert_eq!(store.find(ids.session()).await.unwrap(), None);
}

pub(crate) async fn a_session_goes_from_use_to_the_archive_and_back(world: World) {
    let store = &world.stores.sessions;
    let id = new_session(&world).await;
    let (begun, hour) = (world.now(), Duration::from_secs(3_600));
    assert_eq!(store.idle(begun).await.unwrap(), 0, "it was used at that instant");
    world.clock.advance(hour);
    assert_eq!(store.archivable(world.now(), 10).await.unwrap().len(), 0, "only what is idle");
    assert_eq!(store.idle(world.now()).await.unwrap(), 1);
    assert_eq!(store.archivable(begun, 10).await.unwrap().len(), 0);
    let found = store.archivable(world.now(), 10).await.unwrap();
    assert_eq!((found.len(), found[0].id, found[0].last_used_at), (1, id, begun));
    // Whoever uses it meanwhile keeps it.
    store.touch(id, world.now()).await.unwrap();
    assert_eq!(status(&world, id).await, SessionStatus::Active);
    let pieces = [Digest([1; 32]), Digest([2; 32])];
    assert!(!store.archived(id, begun, &pieces).await.unwrap());
    world.clock.advance(hour);
    assert_eq!(store.idle(world.now()).await.unwrap(), 1);
    let used = store.find(id).await.unwrap().unwrap().last_used_at;
    assert!(store.archived(id, used, &pieces).await.unwrap());
    let archived = store.touch(id, world.now()).await.unwrap().unwrap();
    assert_eq!((archived.status, archived.archive.as_slice()), (SessionStatus::Archived, &pieces[..]), "a touch alone brings nothing back");
    store.restored(id).await.unwrap();
    store.measured(id, 12, 3, world.now()).await.unwrap();
    let back = store.find(id).await.unwrap().unwrap();
    assert_eq!((back.status, back.archive.len(), back.bytes, back.files, back.last_used_at), (SessionStatus::Active, 0, 12, 3, world.now()));
}

pub(crate) async fn a_closed_session_takes_no_traces_and_its_files_go_later(world: World) {
    let store = &world.stores.sessions;
    let id = new_session(&world).await;
    let (trace_id, _) = world.submit_as(NewTrace { session_id: Some(id), ..world.new_trace() }).await;
    assert_eq!(store.close(id, world.now()).await.unwrap(), Closing::InUse);
    let claimed = world.claim_one().await;
    world.finish(&claimed, "1").await;
    assert_eq!(world.trace(trace_id).await.session_id, Some(id));
    let closed_at = world.now();
    assert_eq!(store.close(id, closed_at).await.unwrap(), Closing::Closed);
    assert_eq!(store.close(id, world.now()).await.unwrap(), Closing::Closed);
    let unknown = MonotonicIds::new(world.clock.clone()).session();
    assert_eq!(store.close(unknown, world.now()).await.unwrap(), Closing::NotFound);
    for gone in [id, unknown] {
        let command = Command::Submit(Box::new(NewTrace { session_id: Some(gone), ..world.new_trace() }));
        assert_eq!(world.commit(vec![command]).await.answers, [Answer::SessionClosed]);
    }
    assert!(store.purgeable(closed_at, 10).await.unwrap().is_empty());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(store.purgeable(world.now(), 10).await.unwrap().len(), 1);
    store.purged(id).await.unwrap();
    assert!(store.purgeable(world.now(), 10).await.unwrap().is_empty());
    let kept = store.find(id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.purged, kept.closed_at), (SessionStatus::Closed, true, Some(closed_at)));
}

pub(crate) async fn traces_of_a_session_keep_it_in_use_and_leave_its_other_name(world: World) {
    let store = &world.stores.sessions;
    let id = new_session(&world).await;
    world.clock.advance(Duration::from_secs(60));
    store.idle(world.now()).await.unwrap();
    assert_eq!(status(&world, id).await, SessionStatus::Idle);
    let (in_session, root) = world.submit_as(NewTrace { session_id: Some(id), ..world.new_trace() }).await;
    assert_eq!(status(&world, id).await, SessionStatus::Active);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(store.idle(world.now()).await.unwrap(), 0, "a trace of it has not ended");
    let claimed = world.claim_one().await;
    assert_eq!((claimed.task_id, claimed.session_id), (root, Some(id)));
    let settle = |fence: u64| {
        let end = SettledEnd::Finished { output: Output::Inline(json("1")), children: [].into(), round: None };
        Command::Settle(Box::new(Settle { task_id: root, fence, started_at: world.now(), end, sdk_session_id: Some(format!("new {fence}")) }))
    };
    // Who has lost the claim says nothing.
    world.commit(vec![settle(claimed.fence + 1)]).await;
    assert_eq!(store.find(id).await.unwrap().unwrap().sdk_session_id.as_deref(), Some("theirs"));
    world.commit(vec![settle(claimed.fence)]).await;
    assert_eq!(store.find(id).await.unwrap().unwrap().sdk_session_id, Some(format!("new {}", claimed.fence)));
    let (outside, _) = world.submit_as(world.new_trace()).await;
    assert_eq!(world.trace(outside).await.session_id, None);
    let filter = TraceFilter { session_id: Some(id), ..TraceFilter::default() };
    let found = world.stores.read.traces(&filter, &PageRequest { after: None, limit: 10 }).await.unwrap();
    assert_eq!(found.items.iter().map(|trace| trace.trace_id).collect::<Vec<_>>(), [in_session]);
    let others = TraceFilter { user_id: Some("nobody".to_owned()), ..filter };
    assert!(world.stores.read.traces(&others, &PageRequest { after: None, limit: 10 }).await.unwrap().items.is_empty());
}
