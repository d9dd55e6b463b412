//! The strategy `technical` of the example `financial-analysis` as a container: the same code that the component runs, and around it what hands it
//! a step on standard input.

use std::process::ExitCode;
use std::time::Duration;

use command_tower_worker::{Level, Outcome, StepError, Task, run_command};
use financial_scoring::{data, technical};
use serde::Deserialize;

#[derive(Deserialize)]
struct Params {
    company: String,
    fiscal_year: u16,
    /// To see a partial success.
    #[serde(default)]
    fail: bool,
    /// How long each unit of work takes, to watch it.
    #[serde(default)]
    pace_ms: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run_command(strategy).await
}

async fn strategy(task: Task) -> Result<Outcome, StepError> {
    let Params { company, fiscal_year, fail, pace_ms } = task.params()?;
    // What the scoring finds wrong does not go away.
    let found = data(&company, fiscal_year).and_then(|data| technical::find(data.prices)).map_err(|error| StepError::fatal(error.code(), error.to_string()))?;
    let total = found.reasons.len();
    for (done, reason) in found.reasons.iter().enumerate() {
        if task.is_cancelled() {
            return Err(StepError::Cancelled);
        }
        tokio::time::sleep(Duration::from_millis(pace_ms)).await;
        task.progress(u8::try_from(100 * (done + 1) / total).unwrap_or(100), &reason.what).await;
        task.log(Level::Debug, &reason.text).await;
    }
    if fail {
        return Err(StepError::fatal("STRATEGY_FAILED", "the params say that the technical strategy shall fail"));
    }
    Outcome::done(&found.into_report("technical"))
}
