//! A hundred kills without warning, under load, one after the other on the same data.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tower_store::fault::Guard;

use super::check::{is_sound, violations};
use super::load::{Book, KINDS, host, order};
use crate::host::Host;

/// A kill each. Seeds decide what is asked for and when the kill comes; what the host is doing just then is chance.
const SEEDS: std::ops::Range<u64> = 0..100;

/// The longest that a host works before its kill.
const WORK_MAX: Duration = Duration::from_millis(400);

/// The longest that one that is not to come up in peace is given.
const START_MAX: Duration = Duration::from_millis(120);

/// A host with a wide split on its hands, and the client's book; killed already.
async fn at_work() -> (Host, Book) {
    let mut host = host(&["--slots", "16", "--cancel-grace", "100ms"]);
    host.restart().await;
    host.install("probe").await;
    let mut book = Book::default();
    book.wish(0, 2000);
    book.ask(&host).await.unwrap();
    let trace = format!("/api/v1/traces/{}", book.wishes[0].trace.as_deref().unwrap());
    host.until("the first split", &trace, |body| (body["counts"]["total"].as_u64()? > 2000).then_some(())).await;
    host.kill_9().await;
    (host, book)
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_hundred_kills_lose_and_double_nothing() {
    let begin = Instant::now();
    let (mut host, mut book) = at_work().await;
    for seed in SEEDS {
        play(&mut host, &mut book, seed).await;
        // These deaths come from outside: no task is to be suspected of them, and given up for the third (see f40).
        let _ = std::fs::remove_file(host.data.join("running"));
        is_sound(&host, &book, &format!("after kill {seed}")).await;
    }
    host.restart().await;
    book.ask(&host).await.expect("nobody kills any more");
    book.ended(&host).await;
    let tasks = book.as_it_should_be(&host).await;
    host.terminate().await;
    is_sound(&host, &book, "at the end").await;
    println!("{} kills, {} traces, {tasks} tasks, {:.0?}", SEEDS.end, book.wishes.len(), begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_one_transaction_the_same_kills_go_red() {
    let (mut host, mut book) = at_work().await;
    order(&mut host, "", Some(Guard::Atomic));
    for seed in SEEDS {
        play(&mut host, &mut book, seed).await;
        let found = violations(&host, &book).await;
        if !found.is_empty() {
            return println!("kill {seed}: {} violations, the first: {}", found.len(), found[0]);
        }
    }
    panic!("a hundred kills without the one transaction, and the checker finds nothing: it could not fail");
}

/// Now and then somebody limits how many run at once, or takes the limit away.
async fn limit(host: &Host, max_concurrent: Option<u32>) {
    let mut probe = host.get("/api/v1/definitions/probe").await;
    probe["max_concurrent"] = serde_json::json!(max_concurrent);
    let (status, body) = host.send(reqwest::Method::PUT, "/api/v1/definitions/probe", Some(probe)).await;
    assert!(status.is_success(), "{body}");
}

/// One life of the host, and its kill.
async fn play(host: &mut Host, book: &mut Book, seed: u64) {
    let mut dice = SmallRng::seed_from_u64(seed);
    if dice.random_ratio(1, 5) {
        let time = START_MAX.mul_f64(dice.random());
        let _ = tokio::time::timeout(time, host.begin()).await;
        return host.kill_9().await;
    }
    host.restart().await;
    if seed.is_multiple_of(5) {
        limit(host, dice.random_bool(0.5).then(|| dice.random_range(1..12))).await;
    }
    if seed == SEEDS.end / 2 {
        book.wish(1, 300);
    }
    for _ in 0..dice.random_range(1..=3) {
        book.wish(dice.random_range(0..KINDS), dice.random_range(5..40));
    }
    // Waiting for a time is the subject here: the kill comes whatever the host is doing.
    let time = tokio::time::sleep(WORK_MAX.mul_f64(dice.random()));
    tokio::pin!(time);
    tokio::select! {
        () = &mut time => {}
        _ = async {
            book.ask(host).await;
            std::future::pending::<()>().await;
        } => {}
    }
    host.kill_9().await;
}
