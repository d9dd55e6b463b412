//! Scores a company for one fiscal year, from 0 to 1, with reasons. One component, three strategies, which
//! [`financial_scoring`] holds.

use std::time::Duration;

use command_tower::prelude::*;
use financial_scoring::score::{Found, Report};
use financial_scoring::{data, fundamental, sentiment, technical};
use serde::Deserialize;

#[derive(Deserialize)]
struct Params {
    strategy: Strategy,
    company: String,
    fiscal_year: u16,
    /// To see a partial success.
    #[serde(default)]
    fail: bool,
    /// How long each unit of work takes, to watch it.
    #[serde(default)]
    pace_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Strategy {
    Fundamental,
    Sentiment,
    Technical,
}

impl Strategy {
    fn name(self) -> &'static str {
        match self {
            Self::Fundamental => "fundamental",
            Self::Sentiment => "sentiment",
            Self::Technical => "technical",
        }
    }
}

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Report> {
    let Params { strategy, company, fiscal_year, fail, pace_ms } = &task.params;
    let data = data(company, *fiscal_year)?;
    let found = match strategy {
        Strategy::Fundamental => fundamental::find(data.figures)?,
        Strategy::Sentiment => sentiment::find(data.texts)?,
        Strategy::Technical => technical::find(data.prices)?,
    };
    show(&found, Duration::from_millis(*pace_ms))?;
    if *fail {
        return Err(Error::fatal("STRATEGY_FAILED", format!("the params say that the {} strategy shall fail", strategy.name())));
    }
    Ok(found.into_report(strategy.name()))
}

/// Reports reason by reason, at a pace at which people can watch.
fn show(found: &Found, pace: Duration) -> Result<()> {
    let total = found.reasons.len();
    for (done, reason) in found.reasons.iter().enumerate() {
        check_cancel()?;
        if !pace.is_zero() {
            sleep(pace)?;
        }
        report::progress_of(done + 1, total, &reason.what);
        report::partial_output(reason)?;
        log::debug!("{}", reason.text; what = reason.what, score = reason.score);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::{self, Tower};

    fn task(params: Value) -> Task<Params> {
        testing::task(Params::deserialize(params).expect("the params should fit"))
    }

    #[test]
    fn every_strategy_scores_tesla() {
        for strategy in ["fundamental", "sentiment", "technical"] {
            let tower = Tower::new();
            let params = json!({ "strategy": strategy, "company": "Tesla", "fiscal_year": 2024, "pace_ms": 200 });
            let report = run(task(params)).expect("there is data");
            assert!((0.0..=1.0).contains(&report.score) && report.reasons.len() >= 5, "{report:?}");
            assert!(!report.sources.is_empty());
            assert_eq!(tower.slept(), Duration::from_millis(200 * report.reasons.len() as u64));
            assert_eq!(tower.progress().last().map(|(percent, _)| *percent), Some(100));
        }
    }

    #[test]
    fn a_cancel_is_heard_between_units() {
        let tower = Tower::new();
        tower.signal_after(3, Signal::Cancel("enough".into()));
        let params = json!({ "strategy": "technical", "company": "Tesla", "fiscal_year": 2024, "pace_ms": 200 });
        assert!(run(task(params)).is_err_and(|error| error.is_cancelled()));
        assert_eq!(tower.progress().len(), 1);
    }

    #[test]
    fn it_fails_when_told_to_and_when_it_knows_nothing() {
        let told = json!({ "strategy": "sentiment", "company": "Tesla", "fiscal_year": 2024, "fail": true });
        assert!(run(task(told)).is_err_and(|error| error.code() == "STRATEGY_FAILED" && !error.is_retryable()));
        let unknown = json!({ "strategy": "sentiment", "company": "Acme", "fiscal_year": 2024 });
        assert!(run(task(unknown)).is_err_and(|error| error.code() == "NO_DATA"));
    }
}
