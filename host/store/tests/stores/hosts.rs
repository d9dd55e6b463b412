//! Several hosts on one database: what they know of each other, and what they tell.

use std::time::Duration;

use tower_domain::control::ControlAction;
use tower_domain::step::Signal;
use tower_store::hosts::HostBeat;
use tower_store::news::News;
use tower_store::work::{Claim, Command};

use crate::world::{HOST, LEASE, World, definition, name};

pub(crate) async fn a_host_that_renews_hears_what_is_wanted_of_its_claims(world: World) {
    let mut traces = Vec::new();
    for _ in 0..4 {
        traces.push(world.submit().await.0);
    }
    let claimed = world.claim(10).await;
    let held: Vec<_> = claimed.iter().map(|claim| claim.task_id).collect();
    world.cancel(traces[0], None).await;
    world.pause(traces[1], None).await;
    world.finish(&claimed[2], "1").await;
    // With a lease or without: the same is told.
    for lease in [None, Some(LEASE)] {
        let mut heard = world.commit(vec![Command::Renew { host: HOST.to_owned(), held: held.clone(), lease }]).await;
        heard.to_tell.sort_unstable_by_key(|(id, _)| *id);
        let wanted = [(held[0], Signal::Cancel("enough".into())), (held[1], Signal::Pause), (held[3], Signal::GoOn)];
        assert_eq!(heard.to_tell, wanted);
        assert_eq!(heard.lost, [held[2]]);
        let until = world.task(held[3]).await.lease_expires_at;
        assert_eq!(until == Some(world.now().plus(LEASE)), lease.is_some());
    }
}

pub(crate) async fn hosts_are_seen_drained_and_begin_anew(world: World) {
    let hosts = &world.stores.hosts;
    let beat = |id: &str, life: u64| HostBeat {
        id: id.to_owned(),
        version: "1.2.3".to_owned(),
        started_at: tower_domain::clock::Timestamp::from_micros(life as i64),
        slots: 8,
        running: 3,
        url: Some(format!("http://{id}:8001")),
    };
    let within = Duration::from_secs(30);
    let told = hosts.beat(&beat("a", 1), world.now(), within).await.unwrap();
    assert_eq!((told.draining, told.others), (false, 0));
    assert_eq!(hosts.beat(&beat("b", 1), world.now(), within).await.unwrap().others, 1);
    assert!(hosts.drain("a", true).await.unwrap());
    assert!(!hosts.drain("nobody", true).await.unwrap());
    assert!(hosts.beat(&beat("a", 1), world.now(), within).await.unwrap().draining);
    let rows = hosts.hosts().await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.beat.id.as_str(), row.draining, row.left_at.is_some())).collect::<Vec<_>>(),
        [("a", true, false), ("b", false, false)]
    );
    assert_eq!((&rows[0].beat, rows[0].seen_at), (&beat("a", 1), world.now()));
    // A new life is ordered nothing; who was not seen for long, or went, does not count.
    assert!(!hosts.beat(&beat("a", 2), world.now(), within).await.unwrap().draining);
    hosts.leave("b", world.now()).await.unwrap();
    assert_eq!(hosts.beat(&beat("a", 2), world.now(), within).await.unwrap().others, 0);
    hosts.beat(&beat("b", 2), world.now(), within).await.unwrap();
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(hosts.beat(&beat("a", 2), world.now(), within).await.unwrap().others, 0);
    world.clock.advance(Duration::from_secs(8 * 24 * 3_600));
    hosts.beat(&beat("a", 2), world.now(), within).await.unwrap();
    assert_eq!(hosts.hosts().await.unwrap().len(), 1, "b is forgotten");
}

pub(crate) async fn others_hear_of_work_orders_and_traces(world: World) {
    let mut theirs = world.stores.news.listen("host-2").await.unwrap();
    let mut ours = world.stores.news.listen(HOST).await.unwrap();
    let (trace, _) = world.submit().await;
    assert_eq!(theirs.next().await.unwrap(), News::Work);
    assert_eq!(theirs.next().await.unwrap(), News::Traces(vec![trace]));
    let claim = Claim { host: "host-2".to_owned(), limit: 1, elsewhere: Vec::new(), lease: LEASE };
    world.batch(Vec::new(), Some(claim)).await;
    assert_eq!(theirs.next().await.unwrap(), News::Traces(vec![trace]), "nothing is left to claim");
    world.commit(vec![Command::Control(world.order(ControlAction::Cancel, trace, None))]).await;
    assert_eq!(theirs.next().await.unwrap(), News::Orders);
    // What concerns everybody is heard by everybody, and what a host did itself is not news to it.
    world.stores.definitions.put(&name("d"), &definition("d").spec, None, world.now()).await.unwrap();
    assert_eq!(ours.next().await.unwrap(), News::Definitions);
}
