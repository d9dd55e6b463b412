//! Claims that wait for a slot: traces take turns, so that a small one does not wait for all that was claimed of a large one before.

use std::collections::{HashMap, VecDeque};

use tower_domain::id::TraceId;

/// Claims that have not begun, each of a trace.
pub(crate) struct Ahead<T> {
    /// Of each trace in the order in which they were claimed; none of them is empty.
    of_traces: HashMap<TraceId, VecDeque<T>>,
    /// Whose turn is next.
    turns: VecDeque<TraceId>,
    count: usize,
}

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        Self { of_traces: HashMap::new(), turns: VecDeque::new(), count: 0 }
    }
}

impl<T> Ahead<T> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, trace: TraceId, claim: T) {
        let claims = self.of_traces.entry(trace).or_default();
        if claims.is_empty() {
            self.turns.push_back(trace);
        }
        claims.push_back(claim);
        self.count += 1;
    }

    /// The next claim of the trace whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.turn().map(|(_, claim)| claim)
    }

    fn turn(&mut self) -> Option<(TraceId, T)> {
        let trace = self.turns.pop_front()?;
        let claims = self.of_traces.get_mut(&trace)?;
        let claim = claims.pop_front()?;
        if claims.is_empty() {
            self.of_traces.remove(&trace);
        } else {
            self.turns.push_back(trace);
        }
        self.count -= 1;
        Some((trace, claim))
    }

    /// All but so many: those that would begin last.
    pub(crate) fn split_off(&mut self, keep: usize) -> Vec<T> {
        let mut staying = Self::default();
        while staying.count < keep
            && let Some((trace, claim)) = self.turn()
        {
            staying.push(trace, claim);
        }
        let mut rest = std::mem::replace(self, staying);
        std::iter::from_fn(|| rest.pop()).collect()
    }

    /// Takes out those that are to go.
    pub(crate) fn take_out(&mut self, goes: impl Fn(&T) -> bool) -> Vec<T> {
        let mut all = std::mem::take(self);
        let mut going = Vec::new();
        while let Some((trace, claim)) = all.turn() {
            if goes(&claim) { going.push(claim) } else { self.push(trace, claim) }
        }
        going
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims 0 to 5, of traces 1, 1, 1, 2, 3, 3.
    fn some() -> Ahead<u32> {
        let mut ahead = Ahead::default();
        for (claim, trace) in (0..).zip([1, 1, 1, 2, 3, 3]) {
            ahead.push(TraceId(ulid::Ulid(trace)), claim);
        }
        ahead
    }

    fn rest(ahead: &mut Ahead<u32>) -> Vec<u32> {
        std::iter::from_fn(|| ahead.pop()).collect()
    }

    #[test]
    fn traces_take_turns_and_each_keeps_its_order() {
        let mut ahead = some();
        assert_eq!((ahead.len(), rest(&mut ahead), ahead.len()), (6, vec![0, 3, 4, 1, 5, 2], 0));
    }

    #[test]
    fn what_is_split_off_is_what_would_begin_last() {
        let mut ahead = some();
        assert_eq!(ahead.split_off(4), [5, 2]);
        assert_eq!((ahead.len(), rest(&mut ahead)), (4, vec![0, 3, 4, 1]));
        assert!(some().split_off(9).is_empty());
    }

    #[test]
    fn what_is_taken_out_is_gone_and_the_rest_keeps_its_order() {
        let mut ahead = some();
        assert_eq!(ahead.take_out(|claim| [0, 4, 5].contains(claim)), [0, 4, 5]);
        assert_eq!((ahead.len(), rest(&mut ahead)), (3, vec![3, 1, 2]));
    }
}
