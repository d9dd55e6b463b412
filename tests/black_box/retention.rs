//! Traces that are kept no longer.

use reqwest::Method;
use serde_json::json;
use sqlx::{ConnectOptions, Connection};

use crate::host::{Host, tower};

/// Makes everything that has ended a month and a bit older.
const AGE: &str = "UPDATE traces SET created_at = created_at - 2700000000000, started_at = started_at - 2700000000000, \
         finished_at = finished_at - 2700000000000 WHERE finished_at IS NOT NULL; \
     UPDATE tasks SET created_at = created_at - 2700000000000, started_at = started_at - 2700000000000, \
         finished_at = finished_at - 2700000000000 WHERE trace_id IN (SELECT trace_id FROM traces WHERE finished_at IS NOT NULL)";

async fn old_traces_go(mut host: Host, age: impl AsyncFn(&Host), doctor: &str) {
    host.restart().await;
    host.install("probe").await;
    let old = host.run("probe", json!({ "do": "split", "n": 40, "params": { "do": "echo", "value": 1 } })).await;
    let old = old["trace_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/traces/{old}");
    assert!(host.terminate().await.success());
    age(&host).await;
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
    let place = match &host.database {
        Some(database) => database.url(),
        None => host.data.join("tower.db").display().to_string(),
    };
    let looked = tower().args(["doctor", "--db", &place]).output().unwrap();
    let told = String::from_utf8(looked.stdout).unwrap();
    assert!(told.contains("hold") && told.contains(doctor), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_traces_go_from_a_file() {
    let mut host = Host::new(&[]);
    host.database = None;
    let age = async |host: &Host| {
        let mut conn = sqlx::sqlite::SqliteConnectOptions::new().filename(host.data.join("tower.db")).connect().await.unwrap();
        sqlx::raw_sql(AGE).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
    };
    old_traces_go(host, age, "SQLite finds the file whole").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_traces_go_from_postgresql() {
    let age = async |host: &Host| host.database.as_ref().unwrap().run(AGE);
    old_traces_go(Host::on_postgres_stopped(&[]), age, "durability").await;
}
