//! The disk is full, the database is locked, damaged or out of reach.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tower_domain::clock::{Clock, SystemClock};

use super::check::is_sound;
use super::load::{Book, host};
use super::machine::SmallDisk;
use crate::host::Host;

/// What runs while the disk or the database is away: long enough that outcomes come up meanwhile.
fn some_work() -> Value {
    json!({ "do": "split", "n": 60, "params": { "do": "nap_in_host", "ms": 150 } })
}

/// A host at work: some children have ended, most have not.
async fn at_work(host: &mut Host) -> Book {
    host.restart().await;
    host.install("probe").await;
    let mut book = Book::default();
    book.wish_one(some_work());
    book.ask(host).await.unwrap();
    let trace = format!("/api/v1/traces/{}", book.wishes[0].trace.as_deref().unwrap());
    host.until("some children to end", &trace, |body| (body["counts"]["success"].as_u64()? > 3).then_some(())).await;
    book
}

/// Readiness says so.
async fn readiness_is(host: &Host, wanted: StatusCode) {
    let begin = Instant::now();
    loop {
        let (status, body) = host.send(Method::GET, "/api/v1/readyz", None).await;
        if status == wanted {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "{status}: {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whoever wants something written is told that it cannot be done now; whoever reads is answered.
async fn writing_is_refused_and_reading_is_not(host: &Host, book: &Book) {
    let (status, problem) = host.send(Method::POST, "/api/v1/traces", Some(json!({ "definition": "probe", "params": some_work() }))).await;
    assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("UNAVAILABLE")), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("again"), "{problem}");
    let trace = host.get(&format!("/api/v1/traces/{}", book.wishes[0].trace.as_deref().unwrap())).await;
    assert_eq!((&trace["status"], &trace["counts"]["total"]), (&json!("RUNNING"), &json!(61)));
    assert_eq!(host.get("/api/v1/health").await["status"], "ok");
}

/// Everything that was begun comes to its end, at the first attempt.
async fn it_goes_on_by_itself(host: &mut Host, book: &Book) {
    readiness_is(host, StatusCode::OK).await;
    book.ended(host).await;
    book.as_it_should_be(host).await;
    for task in host.all(&format!("/api/v1/traces/{}/tasks", book.wishes[0].trace.as_deref().unwrap())).await {
        assert_eq!(task["attempt"], 1, "nothing had to run again: {task}");
    }
    host.terminate().await;
    is_sound(host, book, "at the end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_full_disk_is_told_and_everything_goes_on_once_there_is_room() {
    let mut host = host(&["--slots", "4", "--lease", "1s"]);
    let data = host.data.clone();
    let Some(disk) = SmallDisk::mount(&data, 12) else {
        return println!("not tried: this process may not mount; the next test does the same by a limit");
    };
    let book = at_work(&mut host).await;
    disk.fill();
    readiness_is(&host, StatusCode::SERVICE_UNAVAILABLE).await;
    writing_is_refused_and_reading_is_not(&host, &book).await;
    let upload = host.request(Method::POST, "/api/v1/modules?name=other").header("content-type", "application/wasm");
    let module = command_tower_examples::find("financial-analysis").unwrap().modules[0].wasm;
    assert_eq!(upload.body(module).send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    is_sound(&host, &book, "while the disk is full").await;
    // Longer than any lease: nobody takes the claims away meanwhile.
    leases_are_over(&host).await;
    disk.make_room();
    it_goes_on_by_itself(&mut host, &book).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_limit_on_files_is_told_and_everything_goes_on_once_it_is_lifted() {
    let mut host = host(&["--slots", "4", "--lease", "1s"]);
    // The signal that comes with the limit would end it.
    host.prefix = ["sh", "-c", r#"trap "" XFSZ; exec "$0" "$@""#].map(str::to_owned).to_vec();
    let book = at_work(&mut host).await;
    let limit = |bytes: &str| {
        let done = Command::new("prlimit").args(["--pid", &host.pid().to_string(), &format!("--fsize={bytes}:unlimited")]).status().unwrap();
        assert!(done.success(), "{bytes}");
    };
    limit(&std::fs::metadata(host.data.join("tower.db-wal")).unwrap().len().to_string());
    readiness_is(&host, StatusCode::SERVICE_UNAVAILABLE).await;
    writing_is_refused_and_reading_is_not(&host, &book).await;
    is_sound(&host, &book, "under the limit").await;
    limit("unlimited");
    it_goes_on_by_itself(&mut host, &book).await;
}

/// Waits until every lease that is in the database has ended.
async fn leases_are_over(host: &Host) {
    let mut conn = SqliteConnectOptions::new().filename(host.data.join("tower.db")).read_only(true).connect().await.unwrap();
    let begin = std::time::Instant::now();
    loop {
        let until: Option<i64> = sqlx::query_scalar("SELECT max(lease_until) FROM queue").fetch_one(&mut conn).await.unwrap();
        if until.expect("there are claims") < SystemClock.now().as_micros() {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "leases are renewed on a full disk");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn database(host: &Host) -> SqliteConnection {
    SqliteConnectOptions::new().filename(host.data.join("tower.db")).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_database_that_another_process_holds_is_waited_for() {
    let mut host = host(&["--slots", "4", "--lease", "1s"]);
    let book = at_work(&mut host).await;
    let mut other = database(&host).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    // For longer than a statement waits for a lock: 5 s.
    readiness_is(&host, StatusCode::SERVICE_UNAVAILABLE).await;
    writing_is_refused_and_reading_is_not(&host, &book).await;
    is_sound(&host, &book, "while it is held").await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    it_goes_on_by_itself(&mut host, &book).await;
}

/// A data folder that a host has worked on and left.
async fn left() -> Host {
    let mut host = host(&[]);
    host.restart().await;
    host.install("probe").await;
    host.run("probe", json!({ "do": "split", "n": 200, "params": { "do": "random" } })).await;
    host.terminate().await;
    host
}

/// It does not start, and says why.
async fn refuses_to_start(host: &Host, why: &str) {
    refuses_with(host, why, 2, "error[UNUSABLE]").await;
}

async fn refuses_with(host: &Host, why: &str, exit: i32, code: &str) {
    let mut command = tokio::process::Command::from(host.command());
    let output = tokio::time::timeout(Duration::from_secs(60), command.kill_on_drop(true).output()).await.expect(why).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains(why)), (Some(exit), true), "{why}: {said}");
    assert!(said.contains(code) && said.contains("  help: "), "{said}");
    assert!(output.stdout.is_empty());
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_damaged_or_strange_database_is_refused_with_what_is_wrong() {
    let host = left().await;
    let path = host.data.join("tower.db");
    let whole = std::fs::read(&path).unwrap();
    let garbage = [0xA5_u8; 4096];
    let pages = whole.len() as u64 / 4096;
    // Wherever the damage is: most pages are none that opening needs to read.
    let inside = (1..8).map(|eighth| (pages * eighth / 8 * 4096, &garbage[..], "is damaged"));
    for (at, bytes, why) in [(0, &garbage[..], "is not a SQLite database"), (100, &garbage[..2000], "is damaged")].into_iter().chain(inside) {
        overwrite(&path, at, bytes);
        refuses_to_start(&host, why).await;
        std::fs::write(&path, &whole).unwrap();
    }
    for (statement, why, exit, code) in [
        (
            "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
            "newer version",
            5,
            "error[OTHER_SCHEMA]",
        ),
        ("PRAGMA application_id = 7", "another program", 2, "error[UNUSABLE]"),
    ] {
        let mut conn = database(&host).await;
        sqlx::query(statement).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        refuses_with(&host, why, exit, code).await;
        std::fs::write(&path, &whole).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f17_a_place_that_cannot_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mut host = left().await;
    // An ordered end may leave them, empty; with them there, the folder need not be written.
    for end in ["db-wal", "db-shm"] {
        let _ = std::fs::remove_file(host.data.join("tower").with_extension(end));
    }
    // What is root without its powers is held to the files' modes like anybody.
    host.prefix = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"].map(str::to_owned).to_vec();
    if !Command::new("setpriv").args(&host.prefix[1..]).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        host.prefix.clear();
    }
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let path = host.data.join("tower.db");
    mode(&path, 0o444);
    if std::fs::OpenOptions::new().write(true).open(&path).is_ok() && host.prefix.is_empty() {
        return println!("not tried: this process writes whatever the mode says, and cannot be kept from it");
    }
    refuses_to_start(&host, "cannot be written").await;
    mode(&path, 0o644);
    let (data, blobs) = (host.data.clone(), host.data.join("blobs"));
    for (folder, folder_mode, why) in [(&data, 0o555, "readonly database"), (&data, 0o000, "Permission denied"), (&blobs, 0o555, "Permission denied")] {
        mode(folder, folder_mode);
        refuses_to_start(&host, why).await;
        mode(folder, 0o755);
    }
    host.restart().await;
    assert_eq!(host.get("/api/v1/traces").await["items"].as_array().unwrap().len(), 1, "nothing was lost by it");
}
