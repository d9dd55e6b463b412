//! What batches cost in statements: the same on any machine, so a change that makes tasks dearer shows here and not only in benchmarks.

use tower_store::work::{Claim, Claimed, Command, SettledEnd};

use crate::backends::{postgres, sqlite_file};
use crate::world::{HOST, LEASE, World, inline};

fn wish(limit: u32) -> Option<Claim> {
    Some(Claim { host: HOST.to_owned(), limit, elsewhere: Vec::new(), lease: LEASE })
}

/// A lone task, then trees of three sizes whose leaves are claimed and settled a hundred, then five hundred at a time, as a busy host does it.
/// Answers the statements of each batch.
async fn costs(world: &World) -> Vec<(&'static str, u64)> {
    let mut costs = Vec::new();
    let submit = Command::Submit(Box::new(world.new_trace()));
    let begun = world.batch(vec![submit], wish(1)).await;
    costs.push(("a lone task begins and is claimed", begun.statements));
    let ended = world.batch(vec![world.good(&begun.claimed[0], "1")], wish(1)).await;
    costs.push(("it ends", ended.statements));
    // A host with many slots asks for more than there is: one look finds all of it, and that there is no more.
    let submit = Command::Submit(Box::new(world.new_trace()));
    let begun = world.batch(vec![submit], wish(256)).await;
    costs.push(("another is claimed by a host with many slots", begun.statements));
    let ended = world.batch(vec![world.good(&begun.claimed[0], "1")], wish(256)).await;
    costs.push(("it ends there", ended.statements));
    for (children, at_once, names) in [
        (100, 100, ["a split into two hundred, of which a hundred are claimed", "a hundred end and a hundred are claimed"]),
        (1_000, 500, ["a split into two thousand, of which five hundred are claimed", "five hundred end and five hundred are claimed"]),
    ] {
        world.submit().await;
        let root = world.batch(Vec::new(), wish(1)).await.claimed.remove(0);
        let planned = (0..2 * children).map(|number| world.child(&root, &format!("c{number}"))).collect();
        let end = SettledEnd::Finished { output: inline("1"), children: planned, round: None };
        let split = world.batch(vec![world.settle(&root, end)], wish(at_once)).await;
        costs.push((names[0], split.statements));
        let mut running: Vec<Claimed> = split.claimed;
        assert_eq!(running.len(), at_once as usize);
        let ends = running.iter().map(|claimed| world.good(claimed, "1")).collect();
        let next = world.batch(ends, wish(at_once)).await;
        assert_eq!(next.claimed.len(), at_once as usize);
        costs.push((names[1], next.statements));
        running = next.claimed;
        // To the end, so that the next tree stands alone.
        while !running.is_empty() {
            let ends = running.iter().map(|claimed| world.good(claimed, "1")).collect();
            running = world.try_batch(ends, wish(at_once)).await.claimed;
        }
    }
    costs
}

/// One for each row that is written or looked for: three to make a task, five to claim it (four if it was made just before), three to end it, and
/// some for the batch.
#[tokio::test]
async fn statements_of_a_batch_on_sqlite() {
    assert_eq!(
        costs(&World::on(sqlite_file().await)).await,
        [
            ("a lone task begins and is claimed", 12),
            ("it ends", 6),
            ("another is claimed by a host with many slots", 9),
            ("it ends there", 6),
            ("a split into two hundred, of which a hundred are claimed", 909),
            ("a hundred end and a hundred are claimed", 808),
            ("a split into two thousand, of which five hundred are claimed", 7_509),
            ("five hundred end and five hundred are claimed", 4_008),
        ]
    );
}

/// As many for five hundred as for one hundred: arrays. What writes no more than some hundred rows goes in one.
#[tokio::test]
async fn statements_of_a_batch_on_postgres() {
    assert_eq!(
        costs(&World::on(postgres().await)).await,
        [
            ("a lone task begins and is claimed", 5),
            ("it ends", 3),
            ("another is claimed by a host with many slots", 3),
            ("it ends there", 3),
            ("a split into two hundred, of which a hundred are claimed", 7),
            ("a hundred end and a hundred are claimed", 11),
            ("a split into two thousand, of which five hundred are claimed", 11),
            ("five hundred end and five hundred are claimed", 11),
        ]
    );
}
