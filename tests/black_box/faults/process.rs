//! What happens to the process: signals, descriptors that run out, a restart with much to take back, a task that kills its host.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::net::TcpStream;

use super::check::is_sound;
use super::load::{Book, host, order};
use crate::host::Host;

/// Begins one trace, and answers the book and the trace's path.
async fn begin(host: &Host, params: Value) -> (Book, String) {
    let mut book = Book::default();
    book.wish_one(params);
    book.ask(host).await.unwrap();
    let path = format!("/api/v1/traces/{}", book.wishes[0].trace.as_deref().unwrap());
    (book, path)
}

/// Waits until so many children run their code.
async fn children_run(host: &Host, trace: &str, count: usize) {
    let path = format!("{trace}/tasks?status=RUNNING&layer=1&limit=500");
    host.until("children to run", &path, |page| (page["items"].as_array()?.len() >= count).then_some(())).await;
    host.until("their code to run", "/api/v1/readyz", |ready| (ready["running"].as_u64()? as usize >= count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f37_a_second_signal_ends_the_host_at_once_and_no_task_pays_for_it() {
    let mut host = host(&["--slots", "4", "--cancel-grace", "60s"]);
    host.restart().await;
    host.install("probe").await;
    let (book, trace) = begin(&host, json!({ "do": "split", "n": 4, "params": { "do": "nap_in_host", "ms": 6000, "obey": false } })).await;
    // Three times by order, as often as a task that kills its host is borne with; and twice by force, for which tasks are suspected.
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT"), ("TERM", "KILL"), ("INT", "KILL")] {
        children_run(&host, &trace, 4).await;
        let asked = Instant::now();
        host.signal(first);
        // It has heard once it takes no more requests; it goes on with what runs.
        let address = host.url.strip_prefix("http://").unwrap().to_owned();
        while TcpStream::connect(&address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        host.signal(second);
        let status = host.death().await;
        assert!(asked.elapsed() < Duration::from_secs(5), "{second} does not wait for what runs: {:?}", asked.elapsed());
        assert!(status.code() == Some(130) || status.signal() == Some(9), "{status:?}");
        is_sound(&host, &book, second).await;
        host.restart().await;
    }
    book.ended(&host).await;
    for task in host.all(&format!("{trace}/tasks?layer=1")).await {
        assert_eq!((&task["status"], &task["attempt"]), (&json!("SUCCESS"), &json!(1)), "no retry was used up, and nobody is blamed for an order: {task}");
    }
    host.terminate().await;
    is_sound(&host, &book, "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f38_a_restart_with_a_thousand_claims_and_thousands_of_waiting_tasks_is_swift_and_small() {
    let mut host = host(&["--slots", "1000", "--lease", "1s"]);
    host.restart().await;
    host.install("probe").await;
    let (book, trace) = begin(&host, json!({ "do": "split", "n": 5000, "params": { "do": "nap_in_host", "ms": 1000 } })).await;
    host.until("claims for all slots", &trace, |body| (body["counts"]["running"].as_u64()? > 1000).then_some(())).await;
    host.kill_9().await;
    // Half of the claims were those of another host, which is gone for good.
    let mut conn = SqliteConnectOptions::new().filename(host.data.join("tower.db")).connect().await.unwrap();
    let moved = "UPDATE queue SET owner = 'elsewhere', lease_until = 1 WHERE task_id IN (SELECT task_id FROM queue WHERE place = 2 LIMIT 500)";
    assert_eq!(sqlx::query(moved).execute(&mut conn).await.unwrap().rows_affected(), 500);
    conn.close().await.unwrap();
    let begin = Instant::now();
    host.restart().await;
    host.until("claims to run", "/api/v1/readyz", |ready| (ready["running"].as_u64()? > 0).then_some(())).await;
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    book.ended(&host).await;
    let hosts = host.all(&format!("{trace}/tasks?layer=1")).await;
    assert!(hosts.iter().all(|task| task["status"] == "SUCCESS" && task["attempt"] == 1));
    let peak_kib = std::fs::read_to_string(format!("/proc/{}/status", host.pid())).unwrap();
    let peak_kib: u64 = peak_kib.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    println!("peak of memory: {} MiB", peak_kib / 1024);
    assert!(peak_kib < 1024 * 1024, "{peak_kib} KiB");
    host.terminate().await;
    is_sound(&host, &book, "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f40_a_task_that_kills_its_host_three_times_is_given_up_and_the_others_go_on() {
    let mut host = host(&["--slots", "8"]);
    host.restart().await;
    host.install("probe").await;
    host.terminate().await;
    // It kills while the others run beside it, who are suspected with it; at the third time it is alone.
    let poison = "step_begun[poison]:delay=200ms,step_begun[poison]:abort";
    order(&mut host, poison, None);
    host.restart().await;
    let children: Vec<Value> = ["a", "b", "poison", "c", "d"].iter().map(|key| json!({ "key": key, "params": { "do": "nap_in_host", "ms": 1000 } })).collect();
    let (book, _) = begin(&host, json!({ "do": "children", "children": children })).await;
    for death in 1..=3 {
        assert_eq!(host.death().await.signal(), Some(6), "death {death}");
        is_sound(&host, &book, &format!("after death {death}")).await;
        println!(
            "death {death}: {} tasks are suspected",
            std::fs::read(host.data.join("running")).unwrap().chunks(16).filter(|note| note.iter().any(|byte| *byte != 0)).count()
        );
        if death == 2 {
            // A start that dies before it could tell anybody whom it suspects: the next one still knows.
            order(&mut host, "committing:abort@1", None);
            host.begin().await;
            assert_eq!(host.death().await.signal(), Some(6));
            order(&mut host, poison, None);
        }
        host.begin().await;
    }
    let trace = host.ended(book.wishes[0].trace.as_deref().unwrap()).await;
    assert_eq!((&trace["status"], &trace["partial"], &trace["counts"]["success"]), (&json!("SUCCESS"), &json!(true), &json!(5)), "{trace}");
    let letters = host.all("/api/v1/dead-letters").await;
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["key"], &letters[0]["error_code"]), (&json!("poison"), &json!("HOST_CRASHED")), "{letters:?}");
    host.terminate().await;
    is_sound(&host, &book, "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_run_out_are_survived_and_no_step_pays_for_it() {
    let mut host = host(&["--slots", "4"]);
    let log = tempfile::NamedTempFile::new().unwrap();
    host.prefix = ["bash", "-c", &format!("exec 2>'{}'; exec \"$0\" \"$@\"", log.path().display())].map(str::to_owned).to_vec();
    host.variables.push(("TOWER_LOG", "warn".to_owned()));
    host.restart().await;
    host.install("probe").await;
    // One after the other; the last needs a file for its output, at a time when there is none to be had.
    let (book, trace) = begin(
        &host,
        json!({ "do": "children", "children": [
            { "key": "first", "params": { "do": "nap_in_host", "ms": 1200 } },
            { "key": "large", "params": { "do": "big_output", "bytes": 200_000 }, "after": ["first"] },
        ] }),
    )
    .await;
    host.until("the first to run", "/api/v1/readyz", |ready| (ready["running"] == 1).then_some(())).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().count();
    let limit = |most: &str| {
        assert!(Command::new("prlimit").args(["--pid", &host.pid().to_string(), &format!("--nofile={most}:")]).status().unwrap().success());
    };
    limit(&(open + 4).to_string());
    let address = host.url.strip_prefix("http://").unwrap().to_owned();
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(&address).await.unwrap());
    }
    // Until the large one has come to its result, which it cannot store.
    let waits = || std::fs::read_to_string(log.path()).unwrap().contains("a step waits for the store");
    let waited = Instant::now();
    while !waits() {
        assert!(waited.elapsed() < Duration::from_secs(30), "the host goes on without new descriptors, as far as the large output");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(crowd);
    limit("1024");
    book.ended(&host).await;
    let tasks = host.all(&format!("{trace}/tasks")).await;
    assert!(tasks.iter().all(|task| task["status"] == "SUCCESS" && task["attempt"] == 1), "{tasks:?}");
    assert_eq!(host.get("/api/v1/readyz").await["status"], "ready");
    host.terminate().await;
    is_sound(&host, &book, "at the end").await;
}
