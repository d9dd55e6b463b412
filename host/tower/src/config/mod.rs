//! What an operator may set, read and checked once before anything starts.
//!
//! - [`serve`]: what there is to set, as flags with environment variables
//! - [`sessions`]: of sessions and their workspaces
//! - [`layers`]: the same in files, and which of them counts
//! - [`containers`]: the part of them that is about containers
//! - `reference`: docs/config.md, made of the flags

mod containers;
mod layers;
#[cfg(test)]
mod reference;
mod serve;
mod sessions;

pub(crate) use containers::ContainerArgs;
#[cfg(test)]
pub(crate) use layers::sections;
pub(crate) use layers::{Effective, Origin, Setting, SettingsArgs};
pub(crate) use serve::{Artifacts, CompileArgs, ConnectionLimits, HostConfig, LEASE_DEFAULT, Mount, OutsideConfig, ServeArgs, ServeConfig, is_postgres};
pub(crate) use sessions::SessionArgs;

use std::time::Duration;

/// Reads `250ms`, `5s`, `2m`, `1h`, `30d`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(format!("`{text}`: a duration ends in ms, s, m, h or d, such as 30s")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}`: a duration is a number and a unit, such as 30s or 500ms"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| format!("`{text}` is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, ms) in [("250ms", 250), ("5s", 5_000), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000), ("30d", 2_592_000_000), ("0", 0), ("30", 30_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "5 parsecs", "-1s", "1.2.3s", "99999999999999999999999h", "NaN"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
