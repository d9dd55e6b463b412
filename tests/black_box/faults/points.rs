//! The host dies at each named place, once at the first pass and once later.

use std::os::unix::process::ExitStatusExt;

use serde_json::json;
use tower_store::fault::Point;

use super::check::is_sound;
use super::load::{Book, host, order, quiet};
use crate::host::Host;

const SIGABRT: i32 = 6;

/// How a place is come by.
enum Way {
    /// At the first start on an empty folder.
    Start,
    /// By uploads and definitions.
    Upload,
    /// By schedules.
    Fire,
    /// By work, with claims of a host that died before.
    Work,
}

/// The passes to die at. A place without a way is a build error: so no place is forgotten.
fn way(point: Point) -> (Way, &'static [u32]) {
    match point {
        Point::MigrationApplied => (Way::Start, &[1, 2, 3, 4, 5, 6, 7]),
        Point::BlobWritten | Point::BlobPlaced | Point::ModuleWritten | Point::DefinitionWritten => (Way::Upload, &[1, 2]),
        // One pass for each thousand of claims that are taken back.
        Point::ClaimsTakenBack => (Way::Work, &[1]),
        Point::SchedulesWritten => (Way::Fire, &[1, 3]),
        Point::OrderWritten => (Way::Work, &[1, 2]),
        Point::Committing
        | Point::TracesWritten
        | Point::ChildrenWritten
        | Point::TasksWritten
        | Point::QueueWritten
        | Point::EventsWritten
        | Point::AttemptsWritten
        | Point::BatchWritten
        | Point::Committed => (Way::Work, &[1, 9]),
        Point::Claimed | Point::StepBegun | Point::StepEnded => (Way::Work, &[1, 25]),
        Point::Splitting | Point::Folding => (Way::Work, &[1, 5]),
        Point::Renewing => (Way::Work, &[1, 2]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_f03_to_f07_a_host_that_dies_at_any_place_loses_and_doubles_nothing() {
    let mut host = host(&["--slots", "8", "--lease", "1s"]);
    host.restart().await;
    host.install("probe").await;
    let mut deaths = 0;
    for point in Point::ALL {
        let (Way::Work, passes) = way(*point) else { continue };
        for pass in passes {
            die_at_work(&mut host, &format!("{point}:abort@{pass}")).await;
            deaths += 1;
        }
    }
    assert!(deaths >= 30, "{deaths}");
}

/// Dies without a word in the middle of work, so that there are claims; then at the place; then everything comes to its end.
async fn die_at_work(host: &mut Host, fault: &str) {
    let mut book = Book::default();
    book.wish(1, 60);
    book.ask(host).await.unwrap();
    host.kill_9().await;
    order(host, fault, None);
    if host.begin().await {
        let mut rounds = 0;
        book.wish_all_kinds(12);
        // It may be gone before everything is asked for; or there is more to do until it is.
        while book.ask(host).await.is_some() && host.lives() {
            rounds += 1;
            assert!(rounds < 3_000, "{fault}: nobody came by");
            // Little and often: leases are renewed only where there is something to hold at that moment.
            if rounds % 40 == 0 && rounds < 2_000 {
                book.wish_all_kinds(4);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    assert_eq!(host.death().await.signal(), Some(SIGABRT), "{fault}");
    is_sound(host, &book, &format!("after {fault}")).await;
    host.variables = quiet(host);
    host.restart().await;
    book.ask(host).await.expect("a host without faults answers");
    book.ended(host).await;
    book.as_it_should_be(host).await;
    is_sound(host, &book, &format!("at the end, after {fault}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f09_a_host_that_dies_during_an_upload_leaves_all_of_a_module_or_nothing() {
    for point in Point::ALL {
        let (Way::Upload, passes) = way(*point) else { continue };
        for pass in passes {
            let fault = format!("{point}:abort@{pass}");
            let mut host = host(&[]);
            order(&mut host, &fault, None);
            host.restart().await;
            // Four definitions and one module, then three more modules.
            let installed = host.try_install("probe").await && host.try_install("financial-analysis").await;
            assert!(!installed, "{fault}: nobody came by");
            assert_eq!(host.death().await.signal(), Some(SIGABRT), "{fault}");
            is_sound(&host, &Book::default(), &fault).await;
            host.variables = quiet(&host);
            host.restart().await;
            assert_eq!(std::fs::read_dir(host.data.join("blobs/tmp-local")).unwrap().count(), 0, "{fault}: what was half written is gone");
            for module in host.all("/api/v1/modules").await {
                let digits = module["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
                let path = host.data.join("blobs").join(&digits[..2]).join(&digits[2..4]).join(&digits);
                assert_eq!(sha256(&std::fs::read(path).unwrap()), digits, "{fault}: what is listed is there and whole");
            }
            host.install("probe").await;
            let trace = host.run("probe", json!({ "do": "split", "n": 3 })).await;
            assert_eq!(trace["status"], "SUCCESS", "{fault}: {trace}");
            host.terminate().await;
            is_sound(&host, &Book::default(), &fault).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_a_host_that_dies_while_it_fires_has_fired_or_has_not() {
    let mut host = host(&["--slots", "8"]);
    host.restart().await;
    host.install("probe").await;
    let tick = json!({
        "actor_type": "AGENT", "code_ref": "wasm://probe", "default_params": { "do": "echo" }, "schedule_type": "CRON", "cron_expr": "* * * * * *",
        "misfire": "FIRE_ALL",
    });
    let (status, body) = host.send(reqwest::Method::PUT, "/api/v1/definitions/tick", Some(tick)).await;
    assert!(status.is_success(), "{body}");
    let places = Point::ALL.iter().map(|point| (point, way(*point))).filter(|(_, (way, _))| matches!(way, Way::Fire));
    let others = [Point::TracesWritten, Point::BatchWritten, Point::Committed];
    let faults = places.flat_map(|(point, (_, passes))| passes.iter().map(move |pass| (*point, *pass))).chain(others.map(|point| (point, 1)));
    for (point, pass) in faults {
        host.kill_9().await;
        let fault = format!("{point}:abort@{pass}");
        order(&mut host, &fault, None);
        host.begin().await;
        assert_eq!(host.death().await.signal(), Some(SIGABRT), "{fault}");
        is_sound(&host, &Book::default(), &fault).await;
        host.variables = quiet(&host);
        host.restart().await;
        let fired = host.get("/api/v1/schedules").await["items"][0]["fired"].as_u64().unwrap();
        host.until("a firing", "/api/v1/schedules", |page| (page["items"][0]["fired"].as_u64()? > fired).then_some(())).await;
    }
    host.post("/api/v1/definitions/tick/pause", json!({})).await;
    let mut instants = Vec::new();
    for trace in host.all("/api/v1/definitions/tick/traces").await {
        instants.push(trace["cron_trigger_time"].as_str().unwrap().to_owned());
        assert_eq!(host.ended(trace["trace_id"].as_str().unwrap()).await["status"], "SUCCESS");
    }
    let fired = instants.len();
    instants.sort();
    instants.dedup();
    assert_eq!(instants.len(), fired, "no instant fired twice");
    let seconds: Vec<i64> =
        instants.iter().map(|at| serde_json::from_value::<tower_domain::clock::Timestamp>(json!(at)).unwrap().as_millis() / 1_000).collect();
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "none was lost: {instants:?}");
    host.terminate().await;
    is_sound(&host, &Book::default(), "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_a_host_that_dies_between_two_migrations_completes_them_at_its_next_start() {
    let point = Point::MigrationApplied;
    for pass in way(point).1 {
        let fault = format!("{point}:abort@{pass}");
        let mut host = host(&[]);
        order(&mut host, &fault, None);
        assert!(!host.begin().await, "{fault}: nobody came by");
        assert_eq!(host.death().await.signal(), Some(SIGABRT), "{fault}");
        host.variables = quiet(&host);
        host.restart().await;
        assert_eq!(host.get("/api/v1/readyz").await["status"], "ready");
        host.terminate().await;
        is_sound(&host, &Book::default(), &fault).await;
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
