//! The paths of the task service that earlier designs had: definitions with a trigger, under their old names.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::host::Host;

async fn create(host: &Host, body: Value) -> Value {
    let (status, body) = host.send(Method::POST, "/tasks", Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

async fn instances(host: &Host, task: &str) -> Vec<Value> {
    host.get(&format!("/tasks/{task}/instances")).await.as_array().unwrap().clone()
}

/// A monitor every half hour; it is paused, run once by hand, resumed, and cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_is_created_paused_triggered_by_hand_and_cancelled() {
    let host = Host::start(&["--task-definition", "probe"]).await;
    host.install("probe").await;
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "default_params": { "do": "task" } });
    host.send(Method::PUT, "/api/v1/definitions/watcher", Some(spec)).await;
    let wanted =
        json!({ "user_id": "ada", "content": "watch the price", "trigger_type": "LOOP", "trigger_args": { "interval_sec": 1800 }, "definition_id": "watcher" });
    let created = create(&host, wanted).await;
    let task = created["task_id"].as_str().unwrap();
    assert_eq!(created["status"], "ACTIVE");
    assert!(created["next_run_time"].is_string() && created["trace_id"].is_null(), "{created}");
    let found = host.get(&format!("/tasks/{task}")).await;
    assert_eq!((&found["user_id"], &found["interval_sec"], &found["default_params"]["content"]), (&json!("ada"), &json!(1800), &json!("watch the price")));
    let paused = host.post(&format!("/tasks/{task}/pause"), json!({ "reason": "too noisy" })).await;
    assert_eq!((&paused["state"], &paused["next_at"]), (&json!("PAUSED"), &Value::Null));
    // By hand all the same.
    let by_hand = host.post(&format!("/tasks/{task}/trigger"), json!({})).await;
    let trace = host.ended(by_hand["trace_id"].as_str().unwrap()).await;
    assert_eq!((&trace["status"], &trace["user_id"]), (&json!("SUCCESS"), &json!("ada")), "{trace}");
    assert_eq!(trace["params"]["content"], "watch the price");
    let ran = instances(&host, task).await;
    assert_eq!((ran.len(), &ran[0]["trace_id"]), (1, &trace["trace_id"]));
    assert_eq!(host.post(&format!("/tasks/{task}/resume"), json!({})).await["state"], "ACTIVE");
    // A run that is under way ends with the task.
    let running = host.post(&format!("/tasks/{task}/trigger"), json!({ "params": { "do": "nap_in_host", "ms": 60_000 } })).await;
    let cancelled = host.post(&format!("/tasks/{task}/cancel"), json!({ "reason": "done with it" })).await;
    assert_eq!(cancelled, json!({ "status": "cancelled", "cancelled_instances": 1 }));
    assert_eq!(host.ended(running["trace_id"].as_str().unwrap()).await["status"], "CANCELLED");
    assert_eq!(host.get(&format!("/tasks/{task}")).await["schedule_status"], "CANCELLED");
    let again = host.post(&format!("/tasks/{task}/cancel"), json!({})).await;
    assert_eq!(again["cancelled_instances"], 0);
    let mine = host.get("/users/ada/tasks").await;
    assert_eq!((mine.as_array().unwrap().len(), &mine[0]["id"]), (1, &json!(task)));
    // Everything that was ordered, with its reason.
    let orders = host.get(&format!("/api/v1/control-events?definition_id={task}")).await;
    let mut orders: Vec<_> = orders["items"].as_array().unwrap().iter().map(|order| order["action"].as_str().unwrap()).collect();
    orders.sort_unstable();
    assert_eq!(orders, ["CANCEL", "PAUSE", "RUN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_at_once_or_at_its_time_and_what_contradicts_itself_is_refused() {
    let host = Host::start(&["--task-definition", "now"]).await;
    host.install("probe").await;
    let none = json!({ "user_id": "ada", "content": "x" });
    let (status, body) = host.send(Method::POST, "/tasks", Some(none.clone())).await;
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("NO_SUCH_DEFINITION")), "{body}");
    let spec = json!({ "actor_type": "AGENT", "code_ref": "wasm://probe", "default_params": { "do": "task" } });
    host.send(Method::PUT, "/api/v1/definitions/now", Some(spec)).await;
    let at_once = create(&host, none).await;
    assert_eq!((&at_once["status"], &at_once["next_run_time"]), (&Value::Null, &Value::Null), "{at_once}");
    assert_eq!(host.ended(at_once["trace_id"].as_str().unwrap()).await["status"], "SUCCESS");
    let later = json!({ "user_id": "ada", "content": "x", "trigger_type": "SCHEDULED", "trigger_args": { "run_at": "2999-01-01T00:00:00Z" } });
    let later = create(&host, later).await;
    assert_eq!(later["next_run_time"], "2999-01-01T00:00:00.000000Z");
    let daily = json!({ "user_id": "bob", "content": "x", "trigger_type": "LOOP", "trigger_args": { "cron_expr": "0 9 * * *", "timezone": "Asia/Shanghai" }, "priority": 8 });
    let daily = create(&host, daily).await;
    assert!(daily["next_run_time"].as_str().unwrap().ends_with("T01:00:00.000000Z"), "{daily}");
    for (body, pointer) in [
        (json!({ "user_id": "a", "content": "x", "trigger_type": "SCHEDULED" }), "/trigger_args/run_at"),
        (json!({ "user_id": "a", "content": "x", "trigger_args": { "run_at": "2999-01-01T00:00:00Z" } }), "/trigger_args/run_at"),
        (json!({ "user_id": "a", "content": "x", "trigger_args": { "interval_sec": 5 } }), "/trigger_args"),
        (json!({ "user_id": "a", "content": "x", "trigger_type": "LOOP" }), "/trigger_args"),
        (json!({ "user_id": "a", "content": "x", "trigger_type": "LOOP", "trigger_args": { "cron_expr": "every day" } }), "/cron_expr"),
        (json!({ "content": "x" }), "/user_id"),
    ] {
        let (status, answer) = host.send(Method::POST, "/tasks", Some(body.clone())).await;
        assert_eq!((status.as_u16(), answer["errors"][0]["pointer"].as_str().unwrap()), (422, pointer), "{body}: {answer}");
    }
    assert_eq!(host.get("/users/ada/tasks").await.as_array().unwrap().len(), 2, "nothing is left of what was refused");
    let (status, body) = host.send(Method::POST, &format!("/tasks/{}/pause", at_once["task_id"].as_str().unwrap()), Some(json!({}))).await;
    assert_eq!((status.as_u16(), &body["code"]), (409, &json!("NOT_SCHEDULED")), "{body}");
}
