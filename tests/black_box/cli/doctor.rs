//! `tower doctor`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};

use super::{ok, run};
use crate::host::{Host, tower};

fn check(body: &Value, id: &str) -> (String, String) {
    let found = body["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap_or_else(|| panic!("no {id}: {body}"));
    (found["verdict"].as_str().unwrap().to_owned(), found["message"].as_str().unwrap().to_owned())
}

fn body(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

async fn change(database: &Path, statement: &'static str) {
    let mut conn = sqlx::sqlite::SqliteConnectOptions::new().filename(database).connect().await.unwrap();
    sqlx::raw_sql(statement).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_tower_is_found_sound_while_it_runs() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    host.run("probe", json!({ "do": "split", "n": 3, "definition": "probe-exec" })).await;
    let (address, data) = (host.url.strip_prefix("http://").unwrap(), host.data.to_str().unwrap());
    let looked = run(Some(&host), &["doctor", "--listen", address, "--data-dir", data, "--json"]);
    assert_eq!(looked.status.code(), Some(0), "{looked:?}");
    let body = body(&looked);
    assert!(check(&body, "port").1.contains(&format!("held by a tower {}", env!("CARGO_PKG_VERSION"))), "{body}");
    for id in ["data folder", "clock", "server", "version", "clock skew", "database", "integrity", "invariants"] {
        assert_eq!(check(&body, id).0, "ok", "{id}: {body}");
    }
    assert_eq!((&body["database"]["in_use"], &body["database"]["violations"]), (&json!(true), &json!([])));
    assert!(ok(Some(&host), &["doctor", "--listen", address, "--data-dir", data]).contains("takes work"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_invariant_is_named_with_its_rows_and_nothing_is_changed() {
    let mut host = Host::start(&[]).await;
    host.install("probe").await;
    let ended = host.run("probe", json!({ "do": "echo" })).await;
    assert!(host.terminate().await.success());
    let database = host.data.join("tower.db");
    let file = database.to_str().unwrap();
    assert!(ok(None, &["doctor", "--db", file]).contains("hold"));
    change(&database, "UPDATE traces SET count_success = count_success + 1").await;
    let before = std::fs::read(&database).unwrap();
    let looked = run(None, &["doctor", "--db", file, "--json"]);
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    let body = body(&looked);
    let violation = &body["database"]["violations"][0];
    assert_eq!((&body["verdict"], &violation["id"]), (&json!("failed"), &json!("I38")), "{body}");
    assert!(violation["says"].as_str().unwrap().contains("counters"), "{body}");
    assert!(violation["rows"][0].as_str().unwrap().starts_with(ended["trace_id"].as_str().unwrap()), "{body}");
    let said = run(None, &["doctor", "--db", file]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("I38") && said.contains("does not hold"), "{said}");
    assert_eq!(run(None, &["doctor", "--db", file, "-o", "id"]).stdout, b"I38\n");
    assert_eq!(std::fs::read(&database).unwrap(), before, "it was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_tower_was_killed_is_looked_at_with_its_log() {
    let mut host = Host::start(&[]).await;
    host.install("probe").await;
    host.run("probe", json!({ "do": "split", "n": 10, "definition": "probe-exec" })).await;
    host.kill_9().await;
    let database = host.data.join("tower.db");
    let both = || [database.clone(), host.data.join("tower.db-wal")].map(|file| std::fs::read(file).unwrap());
    let before = both();
    assert!(!before[1].is_empty(), "nothing is in the log");
    let looked = body(&run(None, &["doctor", "--db", database.to_str().unwrap(), "--json"]));
    assert_eq!((&looked["verdict"], &looked["database"]["in_use"]), (&json!("ok"), &json!(false)), "{looked}");
    assert!(both() == before, "it was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_database_of_this_tower_is_said_clearly() {
    let mut host = Host::start(&[]).await;
    assert!(host.terminate().await.success());
    let database = host.data.join("tower.db");
    let refused = |file: &Path| {
        let output = run(None, &["doctor", "--db", file.to_str().unwrap()]);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    change(&database, "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', 1, x'00', 0)").await;
    let (code, said) = refused(&database);
    assert!(code == 5 && said.contains("OTHER_SCHEMA") && said.contains("newer"), "{code} {said}");
    change(&database, "DELETE FROM _sqlx_migrations WHERE version > 1").await;
    let (code, said) = refused(&database);
    assert!(code == 5 && said.contains("older"), "{code} {said}");
    let letter = host.data.join("letter.txt");
    std::fs::write(&letter, "a letter to somebody, and surely no database").unwrap();
    let (code, said) = refused(&letter);
    assert!(code == 2 && said.contains("UNUSABLE"), "{code} {said}");
    assert_eq!(refused(&host.data.join("nothing.db")).0, 3);
    assert_eq!(refused(&host.data).0, 2, "a folder");
}

/// Answers everything as a tower of another version would, an hour late.
fn another_tower() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut head = [0; 4096];
            let read = socket.read(&mut head).unwrap();
            let ready = String::from_utf8_lossy(&head[..read]).contains("/ready");
            let body =
                if ready { r#"{"status":"ready","database":true,"accepting":true,"running":0,"slots":1}"# } else { r#"{"status":"ok","version":"9.9.9"}"# };
            let length = body.len();
            let date = "Fri, 01 Jan 2021 00:00:00 GMT";
            write!(socket, "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .unwrap();
        }
    });
    url
}

#[test]
fn another_version_and_another_time_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tower();
    command.current_dir(folder.path()).args(["doctor", "--json", "--listen", "127.0.0.1:0", "--url", &another_tower()]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "warnings are no failure: {output:?}");
    let body = body(&output);
    assert_eq!(check(&body, "version"), ("warning".to_owned(), format!("the server is 9.9.9, this command {}", env!("CARGO_PKG_VERSION"))));
    let (verdict, said) = check(&body, "clock skew");
    assert!(verdict == "warning" && said.contains("behind"), "{said}");
}

#[test]
fn a_port_that_is_taken_and_a_server_that_is_away_are_failures() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let doctor = |args: &[&str]| tower().current_dir(folder.path()).args(["doctor", "--json"]).args(args).output().unwrap();
    let output = doctor(&["--listen", &taken, "--url", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let body = body(&output);
    assert_eq!((check(&body, "port").0, check(&body, "server").0), ("failed".to_owned(), "failed".to_owned()));
    assert_eq!(check(&body, "database").0, "skipped");
}

#[cfg(target_os = "linux")]
#[test]
fn limits_that_are_too_low_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("ulimit -n 300; ulimit -v 20000000; exec {} doctor --json --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_tower"));
    let output = Command::new("sh").current_dir(folder.path()).env_remove("TOWER_URL").args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let body = body(&output);
    assert_eq!(check(&body, "descriptors").0, "warning", "{body}");
    assert_eq!(check(&body, "address space").0, "warning", "{body}");
}

#[cfg(unix)]
#[test]
fn a_missing_target_is_installed_when_that_is_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    for (name, script) in
        [("cargo", "echo cargo 1".to_owned()), ("rustc", "echo /no/such/folder".to_owned()), ("rustup", format!("echo \"$@\" > {}", said.display()))]
    {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let doctor = |args: &[&str]| {
        let mut command = tower();
        command.current_dir(folder.path()).env("PATH", folder.path()).args(["doctor", "--json", "--listen", "127.0.0.1:0"]).args(args);
        command.output().unwrap()
    };
    let looked = body(&doctor(&[]));
    assert_eq!(check(&looked, "target").0, "warning");
    assert!(looked.to_string().contains("rustup target add wasm32-wasip2") && !said.exists(), "{looked}");
    let fixed = doctor(&["--fix"]);
    assert_eq!(check(&body(&fixed), "target").0, "ok");
    assert_eq!(std::fs::read_to_string(&said).unwrap(), "target add wasm32-wasip2\n");
    assert!(String::from_utf8_lossy(&fixed.stderr).contains("running: rustup target add wasm32-wasip2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_database_is_looked_at_while_hosts_work_on_it() {
    let host = Host::on_postgres(&[]).await;
    host.install("probe").await;
    host.run("probe", json!({ "do": "split", "n": 3, "definition": "probe-exec" })).await;
    let database = host.database.as_ref().unwrap();
    let looked = run(None, &["doctor", "--db", &database.url(), "--json"]);
    let found = body(&looked);
    // The tests' own server does not sync.
    assert_eq!(looked.status.code(), Some(1), "{looked:?}");
    assert_eq!(check(&found, "durability").0, "failed", "{found}");
    for id in ["database", "connections", "invariants"] {
        assert_eq!(check(&found, id).0, "ok", "{id}: {found}");
    }
    assert!(check(&found, "database").1.contains("PostgreSQL 1"), "{found}");
    assert_eq!((&found["database"]["fsync"], &found["database"]["violations"]), (&json!(false), &json!([])));
    // The settings of a server name it as well.
    let data = host.data.to_str().unwrap();
    let looked = run(Some(&host), &["doctor", "--data-dir", data, "--database", &database.url(), "--json"]);
    assert_eq!(check(&body(&looked), "invariants").0, "ok", "{looked:?}");
    database.run("UPDATE traces SET count_success = count_success + 1");
    let broken = body(&run(None, &["doctor", "--db", &database.url(), "--json"]));
    assert_eq!(broken["database"]["violations"][0]["id"], "I38", "{broken}");
    let away = run(None, &["doctor", "--db", "postgres://ada:secret@127.0.0.1:1/tower"]);
    let told = String::from_utf8(away.stderr).unwrap();
    assert!(!away.status.success() && told.contains("cannot be reached") && !told.contains("secret"), "{told}");
}
