//! What becomes of a task once its children have ended.

use crate::codes;
use crate::definition::AggregationPolicy;
use crate::task::TaskError;

/// How many children there are, and how many ended, and how many of those well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChildCounts {
    /// Split off.
    pub split: u32,
    /// Ended, in whatever way.
    pub ended: u32,
    /// Ended well.
    pub succeeded: u32,
}

impl ChildCounts {
    /// Whether none is open.
    pub fn all_ended(&self) -> bool {
        self.ended >= self.split
    }
}

/// What the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Children are open.
    Wait,
    /// Fold.
    Aggregate,
    /// Too few succeeded.
    Fail(TaskError),
}

/// Applies the policy.
pub fn judge(policy: AggregationPolicy, counts: ChildCounts) -> Verdict {
    if !counts.all_ended() {
        return Verdict::Wait;
    }
    let need = match policy {
        AggregationPolicy::All => counts.split,
        AggregationPolicy::Partial { min_success } => min_success,
        AggregationPolicy::Always => 0,
    };
    if counts.succeeded >= need {
        return Verdict::Aggregate;
    }
    let rule = match policy {
        AggregationPolicy::All => "aggregation policy ALL needs every one".to_owned(),
        AggregationPolicy::Partial { .. } | AggregationPolicy::Always => format!("aggregation.min_success is {need}"),
    };
    Verdict::Fail(TaskError::new(codes::CHILDREN_FAILED.name, &format!("{} of {} children succeeded; {rule}", counts.succeeded, counts.split)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let counts = |split, ended, succeeded| ChildCounts { split, ended, succeeded };
        assert_eq!(judge(AggregationPolicy::All, counts(3, 2, 2)), Verdict::Wait);
        assert_eq!(judge(AggregationPolicy::All, counts(3, 3, 3)), Verdict::Aggregate);
        assert!(matches!(judge(AggregationPolicy::All, counts(3, 3, 2)), Verdict::Fail(_)));
        assert_eq!(judge(AggregationPolicy::default(), counts(3, 3, 1)), Verdict::Aggregate);
        assert!(matches!(judge(AggregationPolicy::default(), counts(3, 3, 0)), Verdict::Fail(_)));
        assert_eq!(judge(AggregationPolicy::Always, counts(3, 3, 0)), Verdict::Aggregate);
    }
}
