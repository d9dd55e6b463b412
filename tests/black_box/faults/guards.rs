//! The tests of the tests: with a guard off in the host, the same run and the same checker must find something.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;
use tower_store::fault::Guard;

use super::check::{ledger_of, violations};
use super::load::{Book, host, order};
use crate::host::Host;

/// A host with a fault on order, and perhaps with a guard off; the probe is installed.
async fn faulty(args: &[&str], fault: &str, off: Option<Guard>) -> Host {
    let mut host = host(args);
    host.restart().await;
    host.install("probe").await;
    host.terminate().await;
    order(&mut host, fault, off);
    host.restart().await;
    host
}

/// Says what a guard is good for: nothing is found with it, something without.
fn judge(guard: Guard, with: &[String], without: &[String]) {
    println!("with {guard}: nothing is found; without: {without:#?}");
    assert!(with.is_empty(), "with {guard}: {with:#?}");
    assert!(!without.is_empty(), "without {guard} the checker finds nothing: it could not fail");
}

/// A claim is overtaken: its renewals are lost for longer than the lease, its step has come to its result, and that is told only when
/// the task has been claimed again and runs.
async fn overtaken(off: Option<Guard>) -> Vec<String> {
    for _ in 0..5 {
        // The fourth renewal comes a lease after the claim, at the earliest; those of the next claim go through. Every claim tells late.
        let mut host = host(&["--lease", "1s"]);
        order(&mut host, "renewing:fail@1-4,step_ended:delay=4s", off);
        host.restart().await;
        host.install("probe").await;
        let mut book = Book::default();
        book.wish_one(json!({ "do": "random" }));
        book.ask(&host).await.unwrap();
        let ended = host.ended(book.wishes[0].trace.as_deref().unwrap()).await;
        assert_eq!(ended["status"], "SUCCESS", "{ended}");
        let task = host.get(&format!("/api/v1/tasks/{}", ended["root_task_id"].as_str().unwrap())).await;
        assert_eq!(task["attempts"][0]["result"], "LEASE_EXPIRED", "the claim was overtaken: {task}");
        host.terminate().await;
        // A machine that is very busy may not get to the first step before its lease is over; then nobody was overtaken at work.
        let ledger = std::fs::read_to_string(ledger_of(&host)).unwrap();
        let fences: Vec<bool> = ledger.lines().map(|line| ["\"fence\":1,", "\"fence\":1}"].iter().any(|first| line.contains(first))).collect();
        if fences.starts_with(&[true, true, false, false]) {
            return violations(&host, &book).await;
        }
    }
    panic!("five times the machine was too busy for a step to begin within a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_an_overtaken_claim_would_have_its_say() {
    judge(Guard::Fence, &overtaken(None).await, &overtaken(Some(Guard::Fence)).await);
}

/// The host dies while a split is half written, at each place in turn.
async fn half_written(off: Option<Guard>) -> Vec<String> {
    let mut found = Vec::new();
    for place in ["children_written", "tasks_written", "queue_written", "events_written"] {
        let mut host = faulty(&[], "claimed:delay=60s", None).await;
        let mut book = Book::default();
        book.wish_one(json!({ "do": "split", "n": 20, "params": { "do": "random" } }));
        book.ask(&host).await.unwrap();
        host.kill_9().await;
        // Three passes as the claim is taken back, one as it is claimed anew; then comes the split, and nobody asks for anything.
        order(&mut host, &format!("{place}:abort@5"), off);
        host.begin().await;
        assert_eq!(host.death().await.signal(), Some(6), "{place}");
        found.extend(violations(&host, &book).await.into_iter().map(|what| format!("{place}: {what}")));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_one_transaction_a_death_would_leave_half_a_split() {
    let (with, without) = (half_written(None).await, half_written(Some(Guard::Atomic)).await);
    judge(Guard::Atomic, &with, &without);
    // Children of a parent that knows nothing of them; tasks that nobody would ever claim; a history that is not told; one that is not counted.
    for what in ["children_written: I02", "tasks_written: I37", "queue_written: I10", "events_written: I36"] {
        assert!(without.iter().any(|found| found.starts_with(what)), "{what}: {without:#?}");
    }
}

/// The host dies when a trace is durable and nobody was told; the client asks again under its key. Then likewise with an event.
async fn asked_again(off: Option<Guard>) -> Vec<String> {
    let mut host = faulty(&[], "committed:abort@2", off).await;
    let mut book = Book::default();
    book.wish_one(json!({ "do": "nap_in_host", "ms": 1500 }));
    // The first pass is that of the start.
    assert!(book.ask(&host).await.is_none(), "the trace is not acknowledged");
    assert_eq!(host.death().await.signal(), Some(6));
    order(&mut host, "", off);
    host.restart().await;
    book.ask(&host).await.expect("a host without faults answers");
    assert_eq!(book.reports.len(), 1, "the event was kept");
    book.reports[0].acknowledged = false;
    book.ask(&host).await.expect("the client that heard nothing of its event posts it again");
    book.ended(&host).await;
    host.terminate().await;
    violations(&host, &book).await
}

#[tokio::test(flavor = "multi_thread")]
async fn f04_without_the_dedupe_a_client_that_asks_again_would_be_served_twice() {
    let (with, without) = (asked_again(None).await, asked_again(Some(Guard::Dedupe)).await);
    judge(Guard::Dedupe, &with, &without);
    for what in ["one key begins one trace", "I08 "] {
        assert!(without.iter().any(|found| found.starts_with(what)), "{what}: {without:#?}");
    }
}
