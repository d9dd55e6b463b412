//! Splits a question about a company into strategies that run side by side, and answers from what they found.

use std::collections::BTreeMap;

use command_tower::prelude::*;
use serde::{Deserialize, Serialize};

/// The definitions of the strategies are called `strategy-…`.
const STRATEGIES: [&str; 3] = ["fundamental", "sentiment", "technical"];

/// The key of the child that weighs the strategies' scores.
const SUMMARY: &str = "summary";

#[derive(Deserialize)]
struct Params {
    company: String,
    fiscal_year: u16,
    #[serde(default)]
    question: String,
    /// A strategy that shall fail, to see a partial success.
    #[serde(default)]
    fail: String,
    /// How long each unit of a strategy's work takes, to watch it.
    #[serde(default)]
    pace_ms: u64,
}

#[derive(Deserialize)]
struct Directory {
    companies: Vec<Company>,
}

#[derive(Deserialize)]
struct Company {
    name: String,
    also: Vec<String>,
    fiscal_years: Vec<u16>,
}

#[derive(Serialize, Deserialize)]
struct Plan {
    company: String,
}

#[derive(Debug, Serialize)]
struct Answer {
    company: String,
    fiscal_year: u16,
    question: String,
    /// What `summary` made of the strategies that succeeded.
    summary: Value,
    /// Whether every strategy had its say.
    complete: bool,
    missing: Vec<Missing>,
    /// What each strategy found.
    strategies: BTreeMap<String, Value>,
    note: &'static str,
}

#[derive(Debug, PartialEq, Serialize)]
struct Missing {
    strategy: String,
    why: String,
}

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Plan> {
    let Params { company, fiscal_year, fail, pace_ms, .. } = &task.params;
    let company = find_company(company, *fiscal_year)?;
    if !fail.is_empty() && !STRATEGIES.contains(&fail.as_str()) {
        return Err(Error::fatal("BAD_PARAMS", format!("`fail` names no strategy: `{fail}`; there are {}", STRATEGIES.join(", "))));
    }
    let mut children = Vec::new();
    for strategy in STRATEGIES {
        let params = json!({ "company": company, "fiscal_year": fiscal_year, "fail": strategy == fail, "pace_ms": pace_ms });
        children.push(Child::new(strategy, format!("strategy-{strategy}")).params(&params)?);
    }
    // As an aggregator it waits for all of them, however they end.
    children.push(Child::new(SUMMARY, "financial-summary").params(&json!({ "company": company, "fiscal_year": fiscal_year }))?);
    split(children)?;
    log::info!("asked {} strategies about {company} in {fiscal_year}", STRATEGIES.len(); company = company, fiscal_year = fiscal_year);
    Ok(Plan { company })
}

#[command_tower::aggregate]
fn answer(task: Task<Params>, results: Results) -> Result<Answer> {
    let company = task.carried::<Plan>()?.map_or_else(|| task.params.company.clone(), |plan| plan.company);
    let (mut strategies, mut missing, mut summary) = (BTreeMap::new(), Vec::new(), Value::Null);
    for result in results {
        match (result.key.as_str(), result.succeeded()) {
            (SUMMARY, true) => summary = result.output()?,
            (SUMMARY, false) => return Err(Error::fatal("NO_SUMMARY", why(&result))),
            (_, true) => {
                strategies.insert(result.key.clone(), result.output()?);
            }
            (_, false) => missing.push(Missing { strategy: result.key.clone(), why: why(&result) }),
        }
    }
    Ok(Answer {
        company,
        fiscal_year: task.params.fiscal_year,
        question: task.params.question,
        summary,
        complete: missing.is_empty(),
        missing,
        strategies,
        note: "Computed from a few published figures to show how tasks work together. Not advice.",
    })
}

/// The name under which the strategies know the company.
fn find_company(asked: &str, fiscal_year: u16) -> Result<String> {
    let directory: Value = include_str!("../../data/companies.json").parse()?;
    let Directory { companies } = Directory::deserialize(directory)?;
    let is_asked = |name: &String| name.to_lowercase() == asked.trim().to_lowercase();
    let Some(company) = companies.iter().find(|company| is_asked(&company.name) || company.also.iter().any(is_asked)) else {
        let known: Vec<&str> = companies.iter().map(|company| company.name.as_str()).collect();
        return Err(Error::fatal("UNKNOWN_COMPANY", format!("nothing is known of `{asked}`; this example ships with data on {}", known.join(", "))));
    };
    if !company.fiscal_years.contains(&fiscal_year) {
        let known: Vec<String> = company.fiscal_years.iter().map(u16::to_string).collect();
        let message = format!("nothing is known of {} in fiscal {fiscal_year}; this example ships with data on {}", company.name, known.join(", "));
        return Err(Error::fatal("UNKNOWN_YEAR", message));
    }
    Ok(company.name.clone())
}

fn why(result: &TaskResult) -> String {
    match &result.error {
        Some(fault) => format!("{}: {}", fault.code, fault.message),
        None => format!("{:?}", result.status).to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::{self, Tower};

    fn task(params: Value) -> Task<Params> {
        testing::task(Params::deserialize(params).expect("the params should fit"))
    }

    #[test]
    fn a_question_becomes_three_strategies_and_a_summary() {
        let tower = Tower::new();
        run(task(json!({ "company": " tsla ", "fiscal_year": 2024, "fail": "sentiment" }))).expect("Tesla is known");
        let children = tower.children();
        let keys: Vec<(&str, &str)> = children.iter().map(|child| (child.key(), child.definition())).collect();
        assert_eq!(
            keys,
            [
                ("fundamental", "strategy-fundamental"),
                ("sentiment", "strategy-sentiment"),
                ("technical", "strategy-technical"),
                ("summary", "financial-summary"),
            ]
        );
        let fails: Vec<bool> = children.iter().map(|child| child.params_json().contains(r#""fail":true"#)).collect();
        assert_eq!(fails, [false, true, false, false]);
        assert!(children[0].params_json().contains(r#""company":"Tesla""#));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (params, code, hint) in [
            (json!({ "company": "Acme", "fiscal_year": 2024 }), "UNKNOWN_COMPANY", "Tesla"),
            (json!({ "company": "Tesla", "fiscal_year": 1999 }), "UNKNOWN_YEAR", "2024"),
            (json!({ "company": "Tesla", "fiscal_year": 2024, "fail": "luck" }), "BAD_PARAMS", "fundamental, sentiment, technical"),
        ] {
            let error = run(task(params)).err().expect("it should be refused");
            assert_eq!(error.code(), code);
            assert!(!error.is_retryable() && error.message().contains(hint), "{error}");
        }
    }

    #[test]
    fn an_answer_says_what_is_missing() {
        let results = testing::results([
            testing::success("fundamental", &json!({ "score": 0.4 })),
            testing::failure("sentiment", "AS_TOLD", "no"),
            testing::success("technical", &json!({ "score": 0.8 })),
            testing::success("summary", &json!({ "score": 0.53 })),
        ]);
        let task = task(json!({ "company": "TSLA", "fiscal_year": 2024 })).with_carried(&Plan { company: "Tesla".into() });
        let answer = answer(task, results).expect("it should be answered");
        assert_eq!((answer.company.as_str(), answer.complete, answer.strategies.len()), ("Tesla", false, 2));
        assert_eq!(answer.missing, [Missing { strategy: "sentiment".into(), why: "AS_TOLD: no".into() }]);
        assert_eq!(answer.summary["score"], json!(0.53));
    }

    #[test]
    fn without_a_summary_there_is_no_answer() {
        let results = testing::results([testing::failure("summary", "NO_SCORES", "nothing to weigh")]);
        let error = answer(task(json!({ "company": "Tesla", "fiscal_year": 2024 })), results).expect_err("there is nothing to say");
        assert_eq!(error.to_string(), "NO_SUMMARY: NO_SCORES: nothing to weigh");
    }
}
