//! Definitions that fire by themselves, in real time: over HTTP, by the command line, and after a host died.

use std::collections::BTreeSet;
use std::process::Output;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::host::{Host, tower};

const PATH: &str = "/api/v1/definitions/tick";

/// The probe, every second.
async fn ticking(host: &Host, more: Value) {
    host.install("probe").await;
    let mut spec = json!({
        "actor_type": "AGENT", "code_ref": "wasm://probe", "default_params": { "do": "echo" }, "schedule_type": "CRON", "cron_expr": "* * * * * *",
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, body) = host.send(Method::PUT, PATH, Some(spec)).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(body["schedule_status"], "ACTIVE", "{body}");
}

/// The instants that fired, oldest first.
async fn instants(host: &Host) -> Vec<String> {
    let traces = host.all(&format!("{PATH}/traces")).await;
    let mut instants: Vec<String> = traces.iter().filter_map(|trace| Some(trace["cron_trigger_time"].as_str()?.to_owned())).collect();
    instants.sort();
    instants
}

/// Waits until so many have fired.
async fn fired(host: &Host, count: u64) {
    host.until("firings", "/api/v1/schedules", |page| (page["items"][0]["fired"].as_u64()? >= count).then_some(())).await;
}

async fn refused(host: &Host, path: &str, status: u16, code: &str) {
    let (answered, body) = host.send(Method::POST, path, Some(json!({}))).await;
    assert_eq!((answered.as_u16(), body["code"].as_str()), (status, Some(code)), "{body}");
}

fn run(host: &Host, args: &[&str]) -> Output {
    tower().env("TOWER_URL", &host.url).args(args).output().unwrap()
}

fn ok(host: &Host, args: &[&str]) -> String {
    let output = run(host, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_is_held_goes_on_and_ends() {
    let host = Host::start(&[]).await;
    ticking(&host, json!({})).await;
    fired(&host, 2).await;
    let paused = host.post(&format!("{PATH}/pause"), json!({ "reason": "maintenance" })).await;
    assert_eq!((&paused["state"], &paused["next_at"]), (&json!("PAUSED"), &Value::Null));
    let (held, count) = (paused["fired"].as_u64().unwrap(), instants(&host).await.len() as u64);
    assert_eq!(held, count);
    // Triggering goes on while it is held; longer than a firing takes to come.
    let by_hand = host.post(&format!("{PATH}/trigger?wait=30s"), json!({})).await;
    assert_eq!((&by_hand["status"], &by_hand["cron_trigger_time"]), (&json!("SUCCESS"), &Value::Null));
    assert_eq!(host.get(PATH).await["schedule_status"], "PAUSED");
    assert_eq!(host.get(&format!("{PATH}/next")).await["items"], json!([]));
    let resumed = host.post(&format!("{PATH}/resume"), json!({})).await;
    assert_eq!((&resumed["state"], &resumed["missed"]), (&json!("ACTIVE"), &json!(0)));
    fired(&host, held + 2).await;
    assert_eq!(host.post(&format!("{PATH}/cancel"), json!({ "reason": "over" })).await["state"], "CANCELLED");
    refused(&host, &format!("{PATH}/resume"), 409, "SCHEDULE_ENDED").await;
    refused(&host, "/api/v1/definitions/probe/pause", 409, "NOT_SCHEDULED").await;
    refused(&host, "/api/v1/definitions/nobody/pause", 404, "NO_SUCH_DEFINITION").await;
    let orders = host.all("/api/v1/control-events?definition_id=tick").await;
    let said: Vec<_> = orders.iter().map(|order| (order["action"].as_str().unwrap(), order["reason"].as_str().unwrap())).collect();
    assert_eq!(said, [("CANCEL", "over"), ("RUN", ""), ("PAUSE", "maintenance")]);
    assert_eq!(host.all("/api/v1/control-events?action=PAUSE").await.len(), 1);
    // What was read may be put back, and says nothing new.
    let read = host.get(PATH).await;
    assert_eq!(read["schedule_status"], "CANCELLED");
    let (status, put) = host.send(Method::PUT, PATH, Some(read.clone())).await;
    assert_eq!((status, &put), (StatusCode::OK, &read));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_instant_fires_twice_although_the_host_dies() {
    let mut host = Host::start(&[]).await;
    ticking(&host, json!({ "misfire": "FIRE_ALL" })).await;
    for count in [2, 4, 6] {
        fired(&host, count).await;
        host.kill_9().await;
        host.restart().await;
    }
    fired(&host, 8).await;
    host.post(&format!("{PATH}/pause"), json!({})).await;
    let instants = instants(&host).await;
    assert_eq!(instants.iter().collect::<BTreeSet<_>>().len(), instants.len(), "an instant fired twice: {instants:?}");
    let seconds: Vec<i64> =
        instants.iter().map(|at| serde_json::from_value::<tower_domain::clock::Timestamp>(json!(at)).unwrap().as_millis() / 1_000).collect();
    assert!(seconds.windows(2).all(|pair| pair[1] == pair[0] + 1), "an instant is missing: {instants:?}");
    for trace in host.all(&format!("{PATH}/traces")).await {
        assert_eq!(host.ended(trace["trace_id"].as_str().unwrap()).await["status"], "SUCCESS");
    }
    host.terminate().await;
    let store = tower_store::sqlite::open(tower_store::sqlite::SqliteOptions::file(host.data.join("tower.db"))).await.unwrap();
    let violations = tower_store::invariants::check(&store).await.unwrap();
    assert!(violations.is_empty(), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_and_orders_schedules() {
    let host = Host::start(&[]).await;
    ticking(&host, json!({ "cron_expr": "30 8 * * MON-FRI", "timezone": "Europe/Berlin" })).await;
    assert_eq!(ok(&host, &["schedules", "ls", "-o", "id"]), "tick\n");
    let listed = ok(&host, &["schedules", "ls"]);
    assert!(listed.contains("ACTIVE") && listed.contains("(in "), "{listed}");
    let next = ok(&host, &["schedules", "next", "tick", "-n", "3"]);
    assert!(next.starts_with("at 08:30 on Monday to Friday, time of Europe/Berlin\n") && next.lines().count() == 4, "{next}");
    let preview: Value = serde_json::from_str(&ok(&host, &["schedules", "next", "--cron", "0 0 29 2 *", "-n", "2", "--json"])).unwrap();
    assert!(preview["items"][0]["at"].as_str().unwrap().contains("-02-29T00:00:00"), "{preview}");
    assert!(ok(&host, &["schedules", "next", "--every", "90"]).starts_with("every 90 seconds\n"));
    let wrong = run(&host, &["schedules", "next", "--cron", "61 * * * *"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("minute: `61` is no number from 0 to 59"), "{wrong:?}");
    let zone = run(&host, &["schedules", "next", "--cron", "@daily", "--tz", "Europe/Berln"]);
    assert!(String::from_utf8_lossy(&zone.stderr).contains("did you mean Europe/Berlin?"), "{zone:?}");
    assert!(ok(&host, &["schedules", "pause", "tick", "--reason", "later"]).contains("PAUSED"));
    assert_eq!(ok(&host, &["schedules", "ls", "--state", "paused", "-o", "id"]), "tick\n");
    let trace = ok(&host, &["schedules", "fire", "tick", "-o", "id"]);
    assert_eq!(host.ended(trace.trim()).await["trigger_type"], "MANUAL");
    assert!(ok(&host, &["schedules", "resume", "tick"]).contains("ACTIVE"));
    // The verbs of traces and tasks take a definition as well.
    assert!(ok(&host, &["pause", "tick"]).contains("PAUSED"));
    assert!(ok(&host, &["resume", "tick"]).contains("ACTIVE"));
    assert!(ok(&host, &["schedules", "cancel", "tick"]).contains("CANCELLED"));
    assert_eq!(run(&host, &["schedules", "pause", "tick"]).status.code(), Some(5));
    assert_eq!(run(&host, &["schedules", "pause", "nobody"]).status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_schedule_is_applied_and_kept() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tower.toml");
    let text = "[[definition]]\nid = \"nightly\"\nactor_type = \"AGENT\"\ncode_ref = \"wasm://probe\"\nschedule_type = \"CRON\"\n\
        cron_expr = \"0 3 * * *\"\ntimezone = \"Asia/Shanghai\"\noverlap = \"SKIP\"\ndefault_params = { do = \"echo\" }\n";
    std::fs::write(&file, text).unwrap();
    let apply = |more: &[&str]| ok(&host, &[&["apply", "-f", file.to_str().unwrap()], more].concat());
    assert!(apply(&[]).contains("created"));
    assert!(apply(&["--plan"]).contains("keep"), "where it stands is no difference");
    let definition = host.get("/api/v1/definitions/nightly").await;
    assert_eq!((&definition["overlap"], &definition["schedule_status"]), (&json!("SKIP"), &json!("ACTIVE")));
    assert!(definition["next_at"].as_str().unwrap().contains("T19:00:00"), "{definition}");
    std::fs::write(&file, text.replace("0 3 * * *", "0 30 * * *")).unwrap();
    let refused = run(&host, &["apply", "-f", file.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("hour: `30` is no number from 0 to 23"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r36_a_schedule_that_cannot_be_is_refused_at_once() {
    let host = Host::start(&[]).await;
    host.install("probe").await;
    let long = "1,".repeat(275_000);
    for (fields, pointer) in [
        (json!({ "cron_expr": "0 0 30 2 *" }), "/cron_expr"),
        (json!({ "cron_expr": "0 0 L * *" }), "/cron_expr"),
        (json!({ "cron_expr": "0 0 15W * *" }), "/cron_expr"),
        (json!({ "cron_expr": "0 0 * * * * 2020" }), "/cron_expr"),
        (json!({ "cron_expr": long }), "/cron_expr"),
        (json!({ "cron_expr": "" }), "/cron_expr"),
        (json!({}), "/cron_expr"),
        (json!({ "cron_expr": "@daily", "timezone": "Mars/Olympus" }), "/timezone"),
        (json!({ "interval_sec": 0 }), "/interval_sec"),
        (json!({ "interval_sec": 60, "cron_expr": "@daily" }), "/interval_sec"),
        (json!({ "interval_sec": 60, "jitter_sec": 60 }), "/jitter_sec"),
        (json!({ "cron_expr": "@daily", "run_at": "2030-01-01T00:00:00Z" }), "/run_at"),
        (json!({ "cron_expr": "@daily", "starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z" }), "/ends_at"),
    ] {
        let begin = std::time::Instant::now();
        let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "schedule_type": "CRON" });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, body) = host.send(Method::PUT, PATH, Some(spec)).await;
        assert_eq!((status.as_u16(), &body["code"], &body["errors"][0]["pointer"]), (422, &json!("BAD_FIELDS"), &json!(pointer)), "{body}");
        let (status, tried) = host.send(Method::POST, "/api/v1/schedules/preview", Some(fields)).await;
        assert!(status == StatusCode::UNPROCESSABLE_ENTITY, "{tried}");
        assert!(begin.elapsed() < std::time::Duration::from_secs(15), "{body}");
    }
    for expr in ["* * * * * *", "*/5 * * * *", "0 0 * * 0", "0 0 * * 7", "0 0 29 2 *"] {
        let tried = host.post("/api/v1/schedules/preview", json!({ "cron_expr": expr, "n": 100 })).await;
        assert_eq!(tried["items"].as_array().unwrap().len(), 100, "{expr}");
    }
    // What sets a trace off is not for callers to say.
    let (status, body) = host.send(Method::POST, "/api/v1/traces", Some(json!({ "definition": "probe", "trigger_type": "CRON" }))).await;
    assert_eq!((status.as_u16(), &body["errors"][0]["pointer"]), (422, &json!("/trigger_type")), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_shortest_time_between_firings_holds_wherever_a_schedule_is_said() {
    let mut host = Host::start(&[]).await;
    ticking(&host, json!({ "cron_expr": "*/10 * * * * *" })).await;
    host.terminate().await;
    host.args = vec!["--schedule-interval-min".to_owned(), "1m".to_owned()];
    host.restart().await;
    for (fields, pointer) in [(json!({ "cron_expr": "*/30 * * * * *" }), "/cron_expr"), (json!({ "interval_sec": 59 }), "/interval_sec")] {
        let mut spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "schedule_type": "CRON" });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut named = spec.clone();
        named["id"] = json!("other");
        for (method, path, body) in [
            (Method::PUT, "/api/v1/definitions/other", &spec),
            (Method::POST, "/api/v1/definitions", &named),
            (Method::POST, "/api/v1/schedules/preview", &fields),
        ] {
            let (status, body) = host.send(method, path, Some(body.clone())).await;
            let error = &body["errors"][0];
            assert_eq!((status.as_u16(), &body["code"], &error["pointer"]), (422, &json!("BAD_FIELDS"), &json!(pointer)), "{path}: {body}");
            let said = error["message"].as_str().unwrap();
            assert!(said.contains("every 60:") && said.contains("--schedule-interval-min"), "{said}");
        }
    }
    let told = run(&host, &["schedules", "next", "--cron", "*/30 * * * * *"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("--schedule-interval-min"), "{told:?}");
    host.post("/api/v1/schedules/preview", json!({ "interval_sec": 60 })).await;
    // What was taken earlier goes on, and can be switched off.
    assert_eq!(host.get(PATH).await["schedule_status"], "ACTIVE");
    let (status, off) = host.send(Method::DELETE, PATH, None).await;
    assert_eq!((status, &off["is_active"], &off["next_at"]), (StatusCode::OK, &json!(false), &Value::Null), "{off}");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_say_where_their_schedules_stand_and_when_they_fire() {
    let host = Host::start(&[]).await;
    ticking(&host, json!({ "cron_expr": "30 8 * * *", "timezone": "Europe/Berlin", "user_id": "lin" })).await;
    let list = host.all("/api/v1/definitions").await;
    let of = |id: &str| list.iter().find(|definition| definition["id"] == id).unwrap();
    assert_eq!((&of("tick")["schedule_status"], &of("probe")["schedule_status"]), (&json!("ACTIVE"), &Value::Null));
    assert_eq!(of("tick")["next_at"], host.get(PATH).await["next_at"]);
    assert!(of("probe").as_object().unwrap().contains_key("next_at") && of("probe")["next_at"].is_null());
    let found = host.get(&format!("{PATH}?next=3")).await;
    let firings = found["next_firings"].as_array().unwrap();
    assert_eq!((firings.len(), &firings[0]["at"]), (3, &found["next_at"]), "{found}");
    assert!(firings[0]["local"].as_str().unwrap().contains("T08:30:00+0"), "{found}");
    assert_eq!(firings, host.get(&format!("{PATH}/next?n=3")).await["items"].as_array().unwrap());
    // What was read with its firings may be put back.
    assert_eq!(host.send(Method::PUT, PATH, Some(found)).await.0, StatusCode::OK);
    assert_eq!(host.get(&format!("{PATH}?next=0")).await["next_firings"], json!([]));
    assert_eq!(host.get("/api/v1/definitions/probe?next=3").await["next_firings"], json!([]));
    assert!(host.get(PATH).await.get("next_firings").is_none());
    for wrong in ["101", "-1", "ten", ""] {
        let (status, body) = host.send(Method::GET, &format!("{PATH}?next={wrong}"), None).await;
        assert_eq!((status.as_u16(), &body["code"]), (422, &json!("BAD_QUERY")), "{body}");
        assert!(body.to_string().contains("next"), "{body}");
    }
    host.post(&format!("{PATH}/pause"), json!({})).await;
    assert_eq!(host.all("/api/v1/users/lin/definitions").await[0]["schedule_status"], "PAUSED");
    assert_eq!(host.get(&format!("{PATH}?next=3")).await["next_firings"], json!([]));
    let listed = ok(&host, &["defs", "ls"]);
    let line = |id: &str| listed.lines().find(|line| line.split_whitespace().next() == Some(id)).unwrap();
    assert!(line("tick").contains("PAUSED") && !line("probe").contains("null"), "{listed}");
    let shown: Value = serde_json::from_str(&ok(&host, &["defs", "get", "tick", "--next", "2"])).unwrap();
    assert_eq!(shown["next_firings"], json!([]), "{shown}");
}
