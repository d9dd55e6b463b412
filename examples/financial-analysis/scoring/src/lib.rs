//! How a company is scored for one fiscal year, from 0 to 1, with reasons: [`fundamental`] by its figures, [`sentiment`] by its words,
//! [`technical`] by its prices. [`score`] holds what they share. What runs it, a component or a container, is no concern of this.

pub mod fundamental;
pub mod score;
pub mod sentiment;
pub mod technical;

use command_tower::prelude::*;

/// The files that ship with the example, for one company and year.
#[derive(Debug)]
pub struct Data {
    /// What it earned and spent.
    pub figures: &'static str,
    /// What it cost, month by month.
    pub prices: &'static str,
    /// What it said.
    pub texts: &'static str,
}

const TESLA_2024: Data = Data {
    figures: include_str!("../../data/tesla-2024-figures.json"),
    prices: include_str!("../../data/tesla-2024-prices.json"),
    texts: include_str!("../../data/tesla-2024-texts.json"),
};

/// The data on a company in a year.
pub fn data(company: &str, fiscal_year: u16) -> Result<Data> {
    match (company, fiscal_year) {
        ("Tesla", 2024) => Ok(TESLA_2024),
        _ => Err(Error::fatal("NO_DATA", format!("there is no data on {company} in fiscal {fiscal_year}"))),
    }
}
