//! Weighs the scores of strategies into one, and says which of them are missing. It folds the results of its siblings.

use std::collections::BTreeMap;

use command_tower::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Params {
    company: String,
    fiscal_year: u16,
    /// How much each strategy counts beside the others; 1 when it is not named.
    #[serde(default)]
    weights: BTreeMap<String, f64>,
}

/// What is read of a strategy's output.
#[derive(Deserialize)]
struct Report {
    score: f64,
    #[serde(default)]
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    score: f64,
    #[serde(default)]
    weight: f64,
    text: String,
}

#[derive(Debug, Serialize)]
struct Summary {
    /// 0 speaks against the company, 1 for it.
    score: f64,
    verdict: &'static str,
    /// By strategy.
    scores: BTreeMap<String, f64>,
    /// Strategies that did not succeed.
    missing: Vec<String>,
    /// The share of the weight that had its say.
    confidence: f64,
    /// What speaks most for the company.
    strengths: Vec<String>,
    /// What speaks most against it.
    weaknesses: Vec<String>,
    text: String,
}

/// How many strengths and weaknesses are named.
const NAMED: usize = 3;

/// The step runs in no trace of this example: the tower calls the aggregate of an aggregator.
#[command_tower::step]
fn run(task: Task<Params>) -> Result<Summary> {
    summarize(&task.params, task.upstreams().iter().cloned())
}

#[command_tower::aggregate]
fn fold(task: Task<Params>, results: Results) -> Result<Summary> {
    let expected = results.summary().expected as usize;
    summarize(
        &task.params,
        results.enumerate().map(|(done, result)| {
            report::progress_of(done + 1, expected, &result.key);
            result
        }),
    )
}

fn summarize(params: &Params, results: impl Iterator<Item = TaskResult>) -> Result<Summary> {
    let (mut scores, mut missing) = (BTreeMap::new(), Vec::new());
    let (mut weighed, mut heard, mut total) = (0.0, 0.0, 0.0);
    let mut reasons = Vec::new();
    for result in results {
        check_cancel()?;
        let weight = params.weights.get(&result.key).copied().unwrap_or(1.0);
        total += weight;
        if !result.succeeded() {
            missing.push(result.key);
            continue;
        }
        let report: Report = result.output()?;
        weighed += report.score * weight;
        heard += weight;
        scores.insert(result.key, report.score);
        reasons.extend(report.reasons);
    }
    if heard <= 0.0 {
        return Err(Error::fatal("NO_SCORES", format!("no strategy that counts succeeded; missing: {}", missing.join(", "))));
    }
    let score = rounded(weighed / heard);
    let verdict = verdict(score);
    Ok(Summary {
        score,
        verdict,
        text: describe(params, score, verdict, &scores, &missing),
        scores,
        missing,
        confidence: rounded(heard / total),
        strengths: most_telling(&reasons, 1.0),
        weaknesses: most_telling(&reasons, -1.0),
    })
}

fn verdict(score: f64) -> &'static str {
    match score {
        score if score >= 0.6 => "favourable",
        score if score > 0.4 => "mixed",
        _ => "unfavourable",
    }
}

fn describe(params: &Params, score: f64, verdict: &str, scores: &BTreeMap<String, f64>, missing: &[String]) -> String {
    let parts: Vec<String> = scores.iter().map(|(strategy, score)| format!("{strategy} {score:.2}")).collect();
    let mut text = format!("{} in fiscal {}: {verdict}, {score:.2} of 1 ({})", params.company, params.fiscal_year, parts.join(", "));
    if !missing.is_empty() {
        text.push_str(&format!("; without {}, which did not succeed", missing.join(" and ")));
    }
    text
}

/// The reasons that are farthest from the middle on one side, by weight.
fn most_telling(reasons: &[Reason], side: f64) -> Vec<String> {
    let pull = |reason: &Reason| (reason.score - 0.5) * side * reason.weight.max(f64::MIN_POSITIVE);
    let mut telling: Vec<&Reason> = reasons.iter().filter(|reason| pull(reason) > 0.0).collect();
    telling.sort_by(|a, b| pull(b).total_cmp(&pull(a)));
    telling.iter().take(NAMED).map(|reason| reason.text.clone()).collect()
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing;

    fn task() -> Task<Params> {
        let params = json!({ "company": "Tesla", "fiscal_year": 2024, "weights": { "fundamental": 2.0 } });
        testing::task(Params::deserialize(params).expect("the params should fit"))
    }

    fn report(score: f64) -> Value {
        let reason = |score: f64| json!({ "what": "x", "score": score, "weight": 1.0, "text": format!("reason {score}") });
        json!({ "strategy": "x", "score": score, "reasons": [reason(score), reason(1.0 - score)], "sources": [] })
    }

    #[test]
    fn scores_are_weighed() {
        let results = testing::results([
            testing::success("fundamental", &report(0.3)),
            testing::success("sentiment", &report(0.5)),
            testing::success("technical", &report(0.9)),
        ]);
        let summary = fold(task(), results).expect("there is something to weigh");
        assert_eq!((summary.score, summary.verdict, summary.confidence), (0.5, "mixed", 1.0));
        assert_eq!(summary.strengths, ["reason 0.9", "reason 0.7"]);
    }

    #[test]
    fn what_is_missing_is_named_and_not_counted() {
        let results = testing::results([
            testing::success("fundamental", &report(0.3)),
            testing::failure("sentiment", "NO", "no"),
            testing::success("technical", &report(0.9)),
        ]);
        let summary = fold(task(), results).expect("there is something to weigh");
        assert_eq!((summary.score, summary.confidence, summary.missing), (0.5, 0.75, vec!["sentiment".to_owned()]));
        assert!(summary.text.ends_with("without sentiment, which did not succeed"), "{}", summary.text);
    }

    #[test]
    fn without_any_score_there_is_no_summary() {
        let error = fold(task(), testing::results([testing::failure("technical", "NO", "no")])).expect_err("nothing to weigh");
        assert_eq!((error.code(), error.is_retryable()), ("NO_SCORES", false));
    }
}
