//! What the strategies share: reasons, and the score that they add up to.

use serde::Serialize;

/// One thing that speaks for or against the company.
#[derive(Clone, Debug, Serialize)]
pub struct Reason {
    pub what: String,
    /// 0 speaks against, 1 for.
    pub score: f64,
    /// How much it counts beside the others.
    pub weight: f64,
    /// For people.
    pub text: String,
}

impl Reason {
    /// Scores `value` between `worst`, which is 0, and `best`, which is 1.
    pub fn new(what: &str, value: f64, (worst, best): (f64, f64), weight: f64, text: String) -> Self {
        let score = rounded(((value - worst) / (best - worst)).clamp(0.0, 1.0));
        Self { what: what.to_owned(), score, weight, text }
    }
}

/// What a strategy found.
pub struct Found {
    pub reasons: Vec<Reason>,
    pub sources: Vec<String>,
}

/// A strategy's output.
#[derive(Debug, Serialize)]
pub struct Report {
    pub strategy: &'static str,
    /// 0 speaks against the company, 1 for it.
    pub score: f64,
    pub reasons: Vec<Reason>,
    pub sources: Vec<String>,
}

impl Found {
    pub fn into_report(self, strategy: &'static str) -> Report {
        let weight: f64 = self.reasons.iter().map(|reason| reason.weight).sum();
        let score: f64 = self.reasons.iter().map(|reason| reason.score * reason.weight).sum();
        let score = if weight > 0.0 { rounded(score / weight) } else { 0.5 };
        Report { strategy, score, reasons: self.reasons, sources: self.sources }
    }
}

/// Three decimals: more would pretend to be exact.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// `0.123` as `+12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:+.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(value: f64, weight: f64) -> Reason {
        Reason::new("x", value, (-1.0, 3.0), weight, String::new())
    }

    #[test]
    fn scores_stay_between_worst_and_best() {
        assert_eq!([-5.0, -1.0, 1.0, 3.0, 9.0].map(|value| reason(value, 1.0).score), [0.0, 0.0, 0.5, 1.0, 1.0]);
        let falling = Reason::new("volatility", 0.75, (1.0, 0.0), 1.0, String::new());
        assert_eq!(falling.score, 0.25);
    }

    #[test]
    fn a_score_is_the_weighted_mean_of_its_reasons() {
        let found = Found { reasons: vec![reason(3.0, 3.0), reason(-1.0, 1.0)], sources: Vec::new() };
        assert_eq!(found.into_report("test").score, 0.75);
        assert_eq!(Found { reasons: Vec::new(), sources: Vec::new() }.into_report("test").score, 0.5);
    }
}
