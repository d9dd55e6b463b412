//! Traces that are kept no longer.

use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::host::{Host, tower};

/// Makes what has ended a month and a bit older, as far as a condition on traces holds.
fn aged(which: &str) -> String {
    format!(
        "UPDATE tasks SET created_at = created_at - 2700000000000, started_at = started_at - 2700000000000, finished_at = finished_at - 2700000000000 \
             WHERE trace_id IN (SELECT trace_id FROM traces WHERE finished_at IS NOT NULL AND {which}); \
         UPDATE traces SET created_at = created_at - 2700000000000, started_at = started_at - 2700000000000, finished_at = finished_at - 2700000000000 \
             WHERE finished_at IS NOT NULL AND {which}"
    )
}

/// Does so in the database of a host that is not running.
async fn age(host: &Host, which: &str) {
    match &host.database {
        Some(database) => database.run(&aged(which)),
        None => {
            let mut conn = sqlx::sqlite::SqliteConnectOptions::new().filename(host.data.join("tower.db")).connect().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(aged(which))).execute(&mut conn).await.unwrap();
            conn.close().await.unwrap();
        }
    }
}

/// What `tower doctor` says of a database, whose invariants hold.
fn diagnosis(host: &Host) -> String {
    let place = match &host.database {
        Some(database) => database.url(),
        None => host.data.join("tower.db").display().to_string(),
    };
    let looked = tower().args(["doctor", "--db", &place]).output().unwrap();
    let told = String::from_utf8(looked.stdout).unwrap();
    assert!(told.contains("hold") && !told.contains("does not hold"), "{told}");
    told
}

async fn old_traces_go(mut host: Host, doctor: &str) {
    host.restart().await;
    host.install("probe").await;
    let old = host.run("probe", json!({ "do": "split", "n": 40, "params": { "do": "echo", "value": 1 } })).await;
    let old = old["trace_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/traces/{old}");
    assert!(host.terminate().await.success());
    age(&host, "true").await;
    // Without a setting it is kept for ever.
    host.restart().await;
    let young = host.run("probe", json!({ "do": "echo" })).await;
    assert_eq!(host.get(&path).await["status"], "SUCCESS");
    assert!(host.terminate().await.success());
    host.args.extend(["--retention".to_owned(), "30d".to_owned()]);
    host.restart().await;
    host.until_status(404, &path).await;
    let (status, body) = host.send(Method::POST, &format!("{path}/retry"), Some(json!({}))).await;
    assert_eq!(status.as_u16(), 404, "{body}");
    let left = host.all("/api/v1/traces").await;
    assert_eq!(left.iter().map(|trace| &trace["trace_id"]).collect::<Vec<_>>(), [&young["trace_id"]]);
    assert_eq!(host.run("probe", json!({ "do": "echo" })).await["status"], "SUCCESS");
    host.until_status(200, "/readyz").await;
    assert!(host.terminate().await.success());
    let told = diagnosis(&host);
    assert!(told.contains(doctor), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_traces_go_from_a_file() {
    let mut host = Host::new(&[]);
    host.database = None;
    old_traces_go(host, "SQLite finds the file whole").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_traces_go_from_postgresql() {
    old_traces_go(Host::on_postgres_stopped(&[]), "durability").await;
}

/// What is at the URL of an output; none: nothing is.
async fn output_at(host: &Host, url: &str) -> Option<usize> {
    let answer = host.request(Method::GET, url).send().await.unwrap();
    match answer.status().as_u16() {
        200 => Some(answer.json::<String>().await.unwrap().len()),
        status => {
            assert_eq!(status, 404);
            None
        }
    }
}

async fn large_outputs_go(mut host: Host, is_kept: impl AsyncFn(&Host, &str) -> bool) {
    host.restart().await;
    host.install("probe").await;
    let large = json!({ "do": "big_output", "bytes": 200_000 });
    let children = json!([{ "key": "large", "params": large }, { "key": "bad", "params": { "do": "fail" } }]);
    let old = host.run("probe", json!({ "do": "children", "children": children })).await["trace_id"].as_str().unwrap().to_owned();
    let again = host.post(&format!("/api/v1/traces/{old}/retry"), json!({})).await["trace_id"].as_str().unwrap().to_owned();
    host.ended(&again).await;
    let (first, second) = (host.tasks(&old).await["large"].clone(), host.tasks(&again).await["large"].clone());
    assert_eq!((&second["phase"], &second["output_ref"]), (&json!("CACHED"), &first["output_ref"]), "{second}");
    let shared = first["output_ref"].as_str().unwrap().to_owned();
    // The same JSON of a trace that nobody takes anything over from.
    let alone = host.run("probe", large).await["output_ref"].as_str().unwrap().to_owned();
    assert_ne!(alone, shared);
    for url in [&alone, &shared] {
        assert_eq!((output_at(&host, url).await, is_kept(&host, url).await), (Some(199_998), true), "{url}");
    }
    assert!(host.terminate().await.success());
    age(&host, "rerun_of IS NULL").await;
    host.args.extend(["--retention".to_owned(), "30d".to_owned()]);
    host.restart().await;
    host.until_status(404, &format!("/api/v1/traces/{old}")).await;
    host.until_status(404, &alone).await;
    assert!(!is_kept(&host, &alone).await);
    assert_eq!((output_at(&host, &shared).await, is_kept(&host, &shared).await), (Some(199_998), true), "the retry has it");
    assert_eq!(host.tasks(&again).await["large"]["output_ref"], *shared);
    assert!(host.terminate().await.success());
    diagnosis(&host);
    age(&host, "rerun_of IS NOT NULL").await;
    host.restart().await;
    host.until_status(404, &shared).await;
    assert!(!is_kept(&host, &shared).await);
    host.until_status(404, &format!("/api/v1/traces/{again}")).await;
    // Modules stay.
    assert_eq!(host.run("probe", json!({ "do": "echo" })).await["status"], "SUCCESS");
    assert!(host.terminate().await.success());
    diagnosis(&host);
}

/// The digits of an output's name.
fn digits(url: &str) -> &str {
    url.rsplit_once(':').unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn large_outputs_go_from_a_folder_with_the_last_trace_that_has_them() {
    let mut host = Host::new(&[]);
    host.database = None;
    let is_kept = async |host: &Host, url: &str| {
        let digits = digits(url);
        host.data.join("blobs").join(&digits[..2]).join(&digits[2..4]).join(digits).exists()
    };
    large_outputs_go(host, is_kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_outputs_go_from_postgresql_with_the_last_trace_that_has_them() {
    let is_kept = async |host: &Host, url: &str| {
        let mut conn = sqlx::PgConnection::connect(&host.database.as_ref().unwrap().url()).await.unwrap();
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM blobs WHERE encode(digest, 'hex') = $1").bind(digits(url)).fetch_one(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        count == 1
    };
    large_outputs_go(Host::on_postgres_stopped(&[]), is_kept).await;
}
