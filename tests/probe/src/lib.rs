//! What the example `probe` does, for code outside of the host: the same params, the same behaviour. Workers of the tests have it as a function;
//! `probe-step` is the same as a container.

use std::time::Duration;

use command_tower_worker::{Child, Level, Outcome, Signal, StepError, Task};
use serde_json::{Value, json};

/// Runs one step.
pub async fn probe(task: Task) -> Result<Outcome, StepError> {
    let params: Value = task.params()?;
    let ms = || Duration::from_millis(params["ms"].as_u64().unwrap_or(0));
    let obeys = params["obey"] != json!(false);
    match params["do"].as_str().unwrap_or_default() {
        "echo" => Ok(Outcome::Done(params["value"].clone())),
        "children" => {
            let children = params["children"].as_array().cloned().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let child = |child: &Value| {
                let after: Vec<String> = child["after"].as_array().map(|keys| keys.iter().map(text).collect()).unwrap_or_default();
                Child::new(text(&child["key"]), text(&child["definition"]), child["params"].clone()).after(after)
            };
            let ids = task.split(&children.iter().map(child).collect::<Vec<_>>()).await?;
            Ok(Outcome::done(&json!({ "ids": ids }))?)
        }
        "progress" => {
            for report in 1..=params["reports"].as_u64().unwrap_or(1) {
                task.progress(u8::try_from(report).unwrap_or(100), &format!("report {report}")).await;
            }
            Ok(Outcome::Done(Value::Null))
        }
        "log" => {
            task.log(Level::Warn, "a line of the log").await;
            Ok(Outcome::Done(Value::Null))
        }
        "nap_in_host" if obeys => tokio::select! {
            signal = task.signalled() => match signal {
                Signal::Cancel(_) => Err(StepError::Cancelled),
                Signal::Pause | Signal::GoOn => Ok(Outcome::Paused(json!("so far"))),
            },
            () = tokio::time::sleep(ms()) => Ok(Outcome::Done(task.carried().cloned().unwrap_or_else(|| json!("slept")))),
        },
        "nap_in_host" => {
            tokio::time::sleep(ms()).await;
            Ok(Outcome::Done(json!("slept")))
        }
        "retryable" if u64::from(task.attempt()) < params["until"].as_u64().unwrap_or(u64::MAX) => Err(StepError::retryable("AS_TOLD", "as told")),
        "retryable" => Ok(Outcome::Done(json!({ "attempt": task.attempt() }))),
        "fatal" => Err(StepError::fatal(params["code"].as_str().unwrap_or("AS_TOLD"), "as told")),
        "panic" => panic!("as told"),
        other => Err(StepError::fatal("BAD_PARAMS", format!("`{other}` is nothing that it does"))),
    }
}
