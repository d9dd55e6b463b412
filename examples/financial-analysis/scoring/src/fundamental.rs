//! By its figures: growth, margins and cash, this year against the last.

use command_tower::prelude::*;
use serde::Deserialize;

use crate::score::{Found, Reason, percent};

#[derive(Deserialize)]
struct Figures {
    source: String,
    source_date: String,
    this_year: Year,
    last_year: Year,
}

#[derive(Deserialize)]
struct Year {
    revenue: f64,
    gross_profit: f64,
    operating_income: f64,
    net_income: f64,
    operating_cash_flow: f64,
    capital_expenditures: f64,
    deliveries: f64,
    cash_and_investments: f64,
}

impl Year {
    fn operating_margin(&self) -> f64 {
        self.operating_income / self.revenue
    }

    fn gross_margin(&self) -> f64 {
        self.gross_profit / self.revenue
    }

    fn free_cash_flow(&self) -> f64 {
        self.operating_cash_flow - self.capital_expenditures
    }
}

/// What the figures say.
pub fn find(figures: &str) -> Result<Found> {
    let figures: Value = figures.parse()?;
    let Figures { source, source_date, this_year, last_year } = Figures::deserialize(figures)?;
    Ok(Found { reasons: weigh(&this_year, &last_year), sources: vec![format!("{source} ({source_date})")] })
}

fn weigh(now: &Year, before: &Year) -> Vec<Reason> {
    let grown = |figure: fn(&Year) -> f64| growth(figure(before), figure(now));
    let revenue = grown(|year| year.revenue);
    let deliveries = grown(|year| year.deliveries);
    let net_income = grown(|year| year.net_income);
    let cash_flow = grown(|year| year.operating_cash_flow);
    let cash = grown(|year| year.cash_and_investments);
    let margin = now.operating_margin();
    let margin_change = margin - before.operating_margin();
    let gross_change = now.gross_margin() - before.gross_margin();
    let free_cash = now.free_cash_flow() / now.revenue;
    vec![
        Reason::new("revenue growth", revenue, (-0.10, 0.30), 2.0, format!("revenue {} to {}", percent(revenue), billions(now.revenue))),
        Reason::new("deliveries growth", deliveries, (-0.10, 0.30), 1.0, format!("deliveries {} to {} vehicles", percent(deliveries), now.deliveries)),
        Reason::new(
            "gross margin",
            gross_change,
            (-0.05, 0.05),
            1.0,
            format!("gross margin {:.1} %, {} points", now.gross_margin() * 100.0, points(gross_change)),
        ),
        Reason::new("operating margin", margin, (0.0, 0.20), 1.5, format!("operating margin {:.1} %", margin * 100.0)),
        Reason::new("operating margin change", margin_change, (-0.05, 0.05), 1.0, format!("operating margin {} points", points(margin_change))),
        Reason::new("net income growth", net_income, (-0.60, 0.40), 1.0, format!("net income {} to {}", percent(net_income), billions(now.net_income))),
        Reason::new(
            "operating cash flow growth",
            cash_flow,
            (-0.20, 0.30),
            1.0,
            format!("operating cash flow {} to {}", percent(cash_flow), billions(now.operating_cash_flow)),
        ),
        Reason::new(
            "free cash flow",
            free_cash,
            (0.0, 0.10),
            1.0,
            format!(
                "free cash flow {} ({} the year before), {:.1} % of revenue",
                billions(now.free_cash_flow()),
                billions(before.free_cash_flow()),
                free_cash * 100.0
            ),
        ),
        Reason::new("cash", cash, (-0.30, 0.30), 1.0, format!("cash and investments {} to {}", percent(cash), billions(now.cash_and_investments))),
    ]
}

/// By what share it grew.
fn growth(before: f64, now: f64) -> f64 {
    (now - before) / before.abs()
}

fn billions(millions: f64) -> String {
    format!("${:.2} bn", millions / 1000.0)
}

fn points(share: f64) -> String {
    format!("{:+.1}", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_relative_to_the_size_of_what_was() {
        assert_eq!(growth(100.0, 150.0), 0.5);
        assert_eq!(growth(-100.0, -50.0), 0.5);
    }

    #[test]
    fn the_figures_of_2024_say_what_was_published() {
        let found = find(crate::TESLA_2024.figures).expect("the data should fit");
        let texts: Vec<&str> = found.reasons.iter().map(|reason| reason.text.as_str()).collect();
        assert_eq!(texts[0], "revenue +0.9 % to $97.69 bn");
        assert_eq!(texts[1], "deliveries -1.1 % to 1789226 vehicles");
        assert_eq!(texts[3], "operating margin 7.2 %");
        assert_eq!(texts[5], "net income -52.7 % to $7.09 bn");
        assert_eq!(texts[7], "free cash flow $3.58 bn ($4.36 bn the year before), 3.7 % of revenue");
        assert_eq!(texts[8], "cash and investments +25.7 % to $36.56 bn");
        let score = found.into_report("fundamental").score;
        assert!((0.3..0.5).contains(&score), "{score}");
    }
}
