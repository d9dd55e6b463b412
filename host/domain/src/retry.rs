//! Backoff: exponential with full jitter.
//!
//! Full jitter (a uniform draw between zero and the exponential bound) spreads retries of tasks that failed together; see
//! M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long to wait before a retry.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Bound of the first wait, in seconds.
    pub initial_sec: f64,
    /// What each further bound is multiplied by.
    pub factor: f64,
    /// Bound of every wait, in seconds.
    pub max_sec: f64,
    /// Whether to draw from zero to the bound; else the bound itself is waited.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial_sec: 1.0, factor: 2.0, max_sec: 300.0, jitter: true }
    }
}

impl RetryPolicy {
    /// What its numbers may be, in words.
    pub const RULE: &str = "initial_sec and max_sec 0 to 86400, factor 1 to 100";

    /// Whether the numbers are within [`Self::RULE`].
    pub fn is_sound(&self) -> bool {
        (0.0..=86_400.0).contains(&self.initial_sec) && (0.0..=86_400.0).contains(&self.max_sec) && (1.0..=100.0).contains(&self.factor)
    }

    /// The wait after failed attempt number `attempt` (from 1), not less than `at_least`. `draw` is uniform in `0.0..1.0`.
    pub fn delay(&self, attempt: u32, at_least: Option<Duration>, draw: f64) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        // An infinite bound is cut here; a NaN cannot arise from sound numbers but for 0 × ∞, which `max` turns into 0.
        let bound = (self.initial_sec * self.factor.powi(exponent)).max(0.0).min(self.max_sec);
        let wait = if self.jitter { bound * draw } else { bound };
        Duration::try_from_secs_f64(wait).unwrap_or(Duration::ZERO).max(at_least.unwrap_or(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_double_up_to_the_maximum() {
        let policy = RetryPolicy { initial_sec: 1.0, factor: 2.0, max_sec: 10.0, jitter: false };
        let waits: Vec<_> = (1..=6).map(|attempt| policy.delay(attempt, None, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(policy.delay(1, Some(Duration::from_secs(60)), 0.0).as_secs(), 60);
    }

    proptest! {
        #[test]
        fn a_wait_stays_within_its_bounds(attempt in 0..u32::MAX, initial in 0.0..86_400.0, factor in 1.0..100.0, max in 0.0..86_400.0, jitter: bool, draw in 0.0..1.0, least in 0..100_000u64) {
            let policy = RetryPolicy { initial_sec: initial, factor, max_sec: max, jitter };
            prop_assert!(policy.is_sound());
            let least = Duration::from_secs(least);
            let wait = policy.delay(attempt, Some(least), draw);
            prop_assert!(wait >= least);
            prop_assert!(wait <= least.max(Duration::from_secs_f64(max)));
        }
    }
}
