//! What the aggregate does with results.

use std::time::Duration;

use command_tower::prelude::*;
use serde::Deserialize;

use crate::params::{Behaviour, Params};
use crate::splitting;

/// What a step or an aggregate that split leaves for the aggregate after it.
#[derive(Deserialize)]
struct Carried {
    phase: u64,
}

/// Fails, splits again, or adds up, as the params say.
pub(crate) fn fold(task: &Task<Params>, results: Results) -> Result<Value> {
    let fold = &task.params.fold;
    if let Some(code) = &fold.fail {
        let fail = if fold.retryable { Error::retryable } else { Error::fatal };
        return Err(fail(code.clone(), "the aggregate does as it is told"));
    }
    if let (Some(phases), Behaviour::Split(recipe)) = (fold.phases, &task.params.behaviour) {
        let phase = task.carried::<Carried>()?.map_or(1, |carried| carried.phase);
        if phase < phases {
            return splitting::split_recipe(recipe, phase + 1);
        }
    }
    let mut tally = Tally::default();
    for result in results {
        check_cancel()?;
        tally.take(&result, fold.outputs)?;
        if fold.pace_ms > 0 {
            sleep(Duration::from_millis(fold.pace_ms))?;
        }
    }
    Ok(tally.output(fold.outputs))
}

/// The sum of `values` and of the outputs of what the task depends on.
pub(crate) fn add(values: &[f64], upstream: &[TaskResult]) -> Result<Value> {
    let mut sum: f64 = values.iter().sum();
    for result in upstream.iter().filter(|result| result.succeeded()) {
        sum += number(&result.output()?);
    }
    Ok(plain(sum))
}

#[derive(Default)]
struct Tally {
    count: u64,
    ok: u64,
    sum: f64,
    outputs: Vec<(String, Value)>,
    errors: Vec<(String, Value)>,
}

impl Tally {
    fn take(&mut self, result: &TaskResult, keep: bool) -> Result<()> {
        self.count += 1;
        if result.succeeded() {
            self.ok += 1;
            if result.output_ref.is_none() {
                let output: Value = result.output()?;
                self.sum += number(&output);
                if keep {
                    self.outputs.push((result.key.clone(), output));
                }
            }
        } else if keep {
            let why = result.error.as_ref().map_or_else(|| format!("{:?}", result.status).to_uppercase(), |fault| fault.code.clone());
            self.errors.push((result.key.clone(), why.into()));
        }
        Ok(())
    }

    fn output(self, keep: bool) -> Value {
        let mut output = json!({ "count": self.count, "ok": self.ok, "sum": plain(self.sum) });
        if keep {
            output["outputs"] = Value::Object(self.outputs.into_iter().collect());
            output["errors"] = Value::Object(self.errors.into_iter().collect());
        }
        output
    }
}

/// A number is itself, a probe's fold its sum, everything else nothing.
fn number(output: &Value) -> f64 {
    output.as_f64().or_else(|| output.get("sum")?.as_f64()).unwrap_or(0.0)
}

/// Whole numbers without a fraction, as long as a float holds them exactly.
fn plain(sum: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if sum.fract() == 0.0 && sum.abs() < EXACT { json!(sum as i64) } else { json!(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::{self, Tower};

    fn task(params: Value) -> Task<Params> {
        testing::task(Params::deserialize(params).expect("the params should fit"))
    }

    fn some_results() -> Results {
        testing::results([
            testing::success("a", &1),
            testing::success("b", &json!({ "count": 3, "ok": 3, "sum": 2.5 })),
            testing::failure("c", "NO_DATA", "nothing"),
            testing::ended("d", Status::Skipped),
        ])
    }

    #[test]
    fn results_are_counted_and_summed() {
        assert_eq!(fold(&task(json!({ "do": "task" })), some_results()), Ok(json!({ "count": 4, "ok": 2, "sum": 3.5 })));
    }

    #[test]
    fn outputs_and_errors_are_kept_on_demand() {
        let output = fold(&task(json!({ "do": "task", "fold": { "outputs": true } })), some_results()).expect("it folds");
        assert_eq!(output["outputs"]["a"], json!(1));
        assert_eq!(output["errors"], json!({ "c": "NO_DATA", "d": "SKIPPED" }));
    }

    #[test]
    fn phases_split_again_until_they_are_over() {
        let tower = Tower::new();
        let task = task(json!({ "do": "split", "n": 1, "fold": { "phases": 2 } }));
        let first = fold(&task.clone().with_carried(&json!({ "phase": 1 })), some_results());
        assert_eq!(first, Ok(json!({ "phase": 2 })));
        assert_eq!(tower.children()[0].key(), "p2-c0");
        let second = fold(&task.with_carried(&json!({ "phase": 2 })), some_results()).expect("it folds");
        assert_eq!(second["count"], json!(4));
    }

    #[test]
    fn a_fold_may_be_told_to_fail() {
        let params = json!({ "do": "task", "fold": { "fail": "NO", "retryable": true } });
        let error = fold(&task(params), some_results()).expect_err("it should fail");
        assert_eq!((error.code(), error.is_retryable()), ("NO", true));
    }

    #[test]
    fn adding_takes_what_is_upstream() {
        let upstream = [testing::success("a", &40), testing::failure("b", "NO", "no")];
        assert_eq!(add(&[1.0, 1.0], &upstream), Ok(json!(42)));
        assert_eq!(add(&[0.5], &[]), Ok(json!(0.5)));
    }
}
