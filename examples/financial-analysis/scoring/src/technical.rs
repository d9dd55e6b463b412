//! By its prices: trend, momentum, drawdown and volatility of month-end closes.

use command_tower::prelude::*;
use serde::Deserialize;

use crate::score::{Found, Reason, percent};

#[derive(Deserialize)]
struct Prices {
    source: String,
    source_date: String,
    closes: Vec<Close>,
}

#[derive(Deserialize)]
struct Close {
    month: String,
    close: f64,
}

/// A year back needs the close before its first month too.
const CLOSES_MIN: usize = 13;

/// What the prices say.
pub fn find(prices: &str) -> Result<Found> {
    let prices: Value = prices.parse()?;
    let Prices { source, source_date, closes } = Prices::deserialize(prices)?;
    if closes.len() < CLOSES_MIN {
        return Err(Error::fatal("NO_DATA", format!("{} month-end closes are too few, {CLOSES_MIN} are needed", closes.len())));
    }
    Ok(Found { reasons: weigh(&closes), sources: vec![format!("{source} ({source_date})")] })
}

fn weigh(dated: &[Close]) -> Vec<Reason> {
    let closes: Vec<f64> = dated.iter().map(|close| close.close).collect();
    let last = closes[closes.len() - 1];
    let (short, half, long) = (moving_average(&closes, 3), moving_average(&closes, 6), moving_average(&closes, 12));
    let (year, quarter) = (momentum(&closes, 12), momentum(&closes, 3));
    let above = last / half - 1.0;
    let crossing = short / long - 1.0;
    let (fall, trough) = drawdown(&closes);
    let volatility = volatility(&closes);
    vec![
        Reason::new(
            "price against its 6-month average",
            above,
            (-0.25, 0.25),
            1.0,
            format!("{last:.2} at the end, {} to its 6-month average of {half:.2}", percent(above)),
        ),
        Reason::new("3-month against 12-month average", crossing, (-0.25, 0.25), 1.0, format!("3-month average {short:.2}, 12-month average {long:.2}")),
        Reason::new("momentum of 12 months", year, (-0.50, 0.75), 2.0, format!("{} in 12 months", percent(year))),
        Reason::new("momentum of 3 months", quarter, (-0.30, 0.60), 1.0, format!("{} in 3 months", percent(quarter))),
        Reason::new(
            "drawdown",
            fall,
            (-0.60, 0.0),
            1.0,
            format!("at worst {:.1} % below the highest close before it, in {}", -fall * 100.0, dated[trough].month),
        ),
        Reason::new("volatility", volatility, (1.0, 0.2), 1.0, format!("volatility {:.0} % a year", volatility * 100.0)),
    ]
}

/// The mean of the last `months` closes.
fn moving_average(closes: &[f64], months: usize) -> f64 {
    let window = &closes[closes.len() - months..];
    window.iter().sum::<f64>() / months as f64
}

/// The change over the last `months`.
fn momentum(closes: &[f64], months: usize) -> f64 {
    closes[closes.len() - 1] / closes[closes.len() - 1 - months] - 1.0
}

/// The deepest fall below the highest close before it, and where it was.
fn drawdown(closes: &[f64]) -> (f64, usize) {
    let (mut highest, mut worst) = (f64::MIN, (0.0, 0));
    for (index, close) in closes.iter().enumerate() {
        highest = highest.max(*close);
        let fall = close / highest - 1.0;
        if fall < worst.0 {
            worst = (fall, index);
        }
    }
    worst
}

/// The standard deviation of monthly log returns, a year's worth.
fn volatility(closes: &[f64]) -> f64 {
    let returns: Vec<f64> = closes.windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
    let mean = returns.iter().sum::<f64>() / returns.len() as f64;
    let squares: f64 = returns.iter().map(|one| (one - mean).powi(2)).sum();
    (squares / (returns.len() as f64 - 1.0)).sqrt() * 12.0_f64.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_and_momentum_look_back_from_the_end() {
        let closes = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(moving_average(&closes, 2), 6.0);
        assert_eq!(momentum(&closes, 3), 7.0);
    }

    #[test]
    fn a_drawdown_is_measured_from_the_highest_close_before() {
        assert_eq!(drawdown(&[10.0, 8.0, 20.0, 15.0, 30.0, 24.0]), (-0.25, 3));
        assert_eq!(drawdown(&[1.0, 2.0, 3.0]), (0.0, 0));
    }

    #[test]
    fn steady_growth_has_no_volatility() {
        let steady: Vec<f64> = (0..13).map(|month| 100.0 * 1.02_f64.powi(month)).collect();
        assert!(volatility(&steady) < 1e-9);
    }

    #[test]
    fn the_prices_of_2024_end_high_after_a_deep_fall() {
        let found = find(crate::TESLA_2024.prices).expect("the data should fit");
        let texts: Vec<&str> = found.reasons.iter().map(|reason| reason.text.as_str()).collect();
        assert_eq!(texts[2], "+62.5 % in 12 months");
        assert_eq!(texts[3], "+54.4 % in 3 months");
        assert_eq!(texts[4], "at worst 29.3 % below the highest close before it, in 2024-03");
        let score = found.into_report("technical").score;
        assert!(score > 0.7, "{score}");
    }

    #[test]
    fn too_few_prices_are_refused() {
        let error = find(r#"{"source":"","source_date":"","closes":[]}"#).err().expect("there is nothing to look at");
        assert_eq!(error.code(), "NO_DATA");
    }
}
