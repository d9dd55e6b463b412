//! How many tasks may run at once, and how many may begin in a while.
//!
//! A limit is a gate that a task passes before it can be claimed, and leaves when its claim ends. A task may have several gates; it
//! passes all of them at once or none, so that tasks never hold one gate while they wait for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::json::Json;
use crate::name::Name;

/// Bounds of the numbers in limits, inclusive.
pub mod bounds {
    use std::ops::RangeInclusive;

    /// Tasks at once.
    pub const MAX_CONCURRENT: RangeInclusive<u32> = 1..=1_000_000;
    /// Starts in a period, and starts at once.
    pub const RATE_MAX: RangeInclusive<u32> = 1..=1_000_000;
    /// Seconds of a period.
    pub const RATE_PER_SEC: RangeInclusive<u32> = 1..=86_400;
    /// Bytes of `concurrency_key`.
    pub const KEY_BYTES_MAX: usize = 256;
    /// Characters by which values of `concurrency_key` are told apart.
    pub const VALUE_CHARS_MAX: usize = 200;
}

/// So many starts in a period. A bucket of `burst` tokens that is refilled evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Starts in a period, on the average.
    pub max: u32,
    /// Seconds of the period.
    pub per_sec: u32,
    /// Starts at once after a while without any; `max` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl RateLimit {
    /// What is right.
    pub const RULE: &str = "{max, per_sec, burst?}: max and burst from 1 to 1000000, per_sec from 1 to 86400 seconds";

    /// Whether its numbers are within bounds.
    pub fn is_sound(&self) -> bool {
        bounds::RATE_MAX.contains(&self.max) && bounds::RATE_PER_SEC.contains(&self.per_sec) && self.burst.is_none_or(|burst| bounds::RATE_MAX.contains(&burst))
    }

    /// Microseconds from one token to the next.
    fn interval(&self) -> i64 {
        (i64::from(self.per_sec) * 1_000_000 / i64::from(self.max.max(1))).max(1)
    }

    /// How far the theoretical arrival time may be ahead, in microseconds.
    fn tolerance(&self) -> i64 {
        self.interval() * i64::from(self.burst.unwrap_or(self.max).max(1) - 1)
    }
}

/// What a definition says about its tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Tasks of the definition that run at once.
    pub max_concurrent: Option<u32>,
    /// JSON Pointer (RFC 6901) into the params: tasks with the same value there share a limit.
    pub concurrency_key: Option<String>,
    /// Tasks with one value of the key that run at once; 1 if absent.
    pub max_concurrent_per_key: Option<u32>,
    /// Starts in a period.
    pub rate_limit: Option<RateLimit>,
}

impl Limits {
    /// What holds at a gate; none: nothing any more.
    pub fn at(&self, gate: &Gate) -> Option<GateLimit> {
        match gate {
            Gate::Definition(_) => self.max_concurrent.map(GateLimit::Places),
            Gate::Key { .. } => self.concurrency_key.as_ref().map(|_| GateLimit::Places(self.max_concurrent_per_key.unwrap_or(1))),
            Gate::Rate(_) => self.rate_limit.map(GateLimit::Rate),
            Gate::User(_) => None,
        }
    }
}

/// Where a limit holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gate {
    /// For tasks of a definition with one value of its key.
    Key {
        /// Which definition.
        definition: Name,
        /// Which value.
        value: Arc<str>,
    },
    /// For all tasks of a definition.
    Definition(Name),
    /// For all tasks of somebody's traces.
    User(Arc<str>),
    /// For starts of a definition's tasks.
    Rate(Name),
}

impl Gate {
    /// Whose limit it is; none: the operator's.
    pub fn definition(&self) -> Option<&Name> {
        match self {
            Self::Key { definition, .. } | Self::Definition(definition) | Self::Rate(definition) => Some(definition),
            Self::User(_) => None,
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { definition, value } => write!(f, "key/{definition}/{value}"),
            Self::Definition(definition) => write!(f, "definition/{definition}"),
            Self::User(user) => write!(f, "user/{user}"),
            Self::Rate(definition) => write!(f, "rate/{definition}"),
        }
    }
}

/// The text is no gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a limit: `definition/NAME`, `key/NAME/VALUE`, `rate/NAME` or `user/ID`")]
pub struct BadGate(pub String);

impl FromStr for Gate {
    type Err = BadGate;
    fn from_str(text: &str) -> Result<Self, BadGate> {
        let bad = || BadGate(text.chars().take(64).collect());
        let (kind, rest) = text.split_once('/').ok_or_else(bad)?;
        let name = |text: &str| Name::new(text).map_err(|_| bad());
        Ok(match kind {
            "definition" => Self::Definition(name(rest)?),
            "rate" => Self::Rate(name(rest)?),
            "user" => Self::User(rest.into()),
            "key" => {
                let (definition, value) = rest.split_once('/').ok_or_else(bad)?;
                Self::Key { definition: name(definition)?, value: value.into() }
            }
            _ => return Err(bad()),
        })
    }
}

impl Serialize for Gate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Gate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The gates that a task passes, in the order in which they are looked at. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gates(Option<Arc<[Gate]>>);

impl Gates {
    /// Of a task of a definition. `user`: whose trace it is in, where the operator limits users.
    pub fn of(definition: &Name, limits: &Limits, params: &Json, user: Option<&str>) -> Self {
        let mut gates = Vec::new();
        if let Some(value) = limits.concurrency_key.as_deref().and_then(|pointer| value_at(params, pointer)) {
            gates.push(Gate::Key { definition: definition.clone(), value: value.into() });
        }
        if limits.max_concurrent.is_some() {
            gates.push(Gate::Definition(definition.clone()));
        }
        if let Some(user) = user {
            gates.push(Gate::User(user.into()));
        }
        // Last, so that no start is counted for a task that another gate keeps.
        if limits.rate_limit.is_some() {
            gates.push(Gate::Rate(definition.clone()));
        }
        gates.into_iter().collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// In order.
    pub fn as_slice(&self) -> &[Gate] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whose trace the task is in, if that is limited.
    pub fn user(&self) -> Option<&str> {
        self.as_slice().iter().find_map(|gate| match gate {
            Gate::User(user) => Some(&**user),
            Gate::Key { .. } | Gate::Definition(_) | Gate::Rate(_) => None,
        })
    }
}

impl FromIterator<Gate> for Gates {
    fn from_iter<I: IntoIterator<Item = Gate>>(gates: I) -> Self {
        let gates: Vec<Gate> = gates.into_iter().collect();
        Self((!gates.is_empty()).then(|| gates.into()))
    }
}

/// What stands at a pointer, as text: strings as they are, everything else as JSON. Nothing, where nothing or `null` stands.
fn value_at(params: &Json, pointer: &str) -> Option<String> {
    let params: Value = params.read().ok()?;
    let text = match params.pointer(pointer)? {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(text.chars().take(bounds::VALUE_CHARS_MAX).collect())
}

/// What holds at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateLimit {
    /// So many tasks at once.
    Places(u32),
    /// So many starts in a while.
    Rate(RateLimit),
}

/// Where a gate stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GateState {
    /// Tasks that have passed and not left.
    pub taken: u32,
    /// The theoretical arrival time of the generic cell rate algorithm (ITU-T I.371): when the bucket is full again.
    pub full_at: Option<Timestamp>,
    /// When whoever waits here is to be looked at, if not when somebody leaves.
    pub opens_at: Option<Timestamp>,
}

impl GateState {
    /// Whether a task could pass.
    pub fn is_open(&self, limit: Option<GateLimit>, now: Timestamp) -> bool {
        match limit {
            None => true,
            Some(GateLimit::Places(places)) => self.taken < places,
            Some(GateLimit::Rate(rate)) => self.next_token(rate).is_none_or(|at| at <= now),
        }
    }

    /// How many could pass; more than anybody asks for, where nothing holds.
    pub fn room(&self, limit: Option<GateLimit>, now: Timestamp) -> u32 {
        match limit {
            None => u32::MAX,
            Some(GateLimit::Places(places)) => places.saturating_sub(self.taken),
            Some(GateLimit::Rate(rate)) => {
                let ahead = self.full_at.map_or(0, |at| (at.as_micros() - now.as_micros()).max(0));
                let left = rate.tolerance() - ahead;
                if left < 0 { 0 } else { u32::try_from(left / rate.interval() + 1).unwrap_or(u32::MAX) }
            }
        }
    }

    /// A task passes.
    pub fn pass(&mut self, limit: Option<GateLimit>, now: Timestamp) {
        self.taken += 1;
        if let Some(GateLimit::Rate(rate)) = limit {
            let from = self.full_at.map_or(now, |at| at.max(now));
            self.full_at = Some(Timestamp::from_micros(from.as_micros() + rate.interval()));
        }
    }

    /// Tasks leave.
    pub fn leave(&mut self, tasks: u32) {
        self.taken = self.taken.saturating_sub(tasks);
    }

    /// When a task that waits could pass, where time alone tells.
    pub fn opening(&self, limit: Option<GateLimit>) -> Option<Timestamp> {
        match limit {
            Some(GateLimit::Rate(rate)) => self.next_token(rate),
            Some(GateLimit::Places(_)) | None => None,
        }
    }

    /// Whether there is nothing to remember.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.taken == 0 && self.opens_at.is_none() && self.full_at.is_none_or(|at| at <= now)
    }

    fn next_token(&self, rate: RateLimit) -> Option<Timestamp> {
        self.full_at.map(|at| Timestamp::from_micros(at.as_micros() - rate.tolerance()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn a_gate_reads_as_it_is_written() {
        let gates = [
            Gate::Definition(name("report")),
            Gate::Rate(name("report")),
            Gate::User("eve/and/adam".into()),
            Gate::Key { definition: name("report"), value: "a/b".into() },
            Gate::Key { definition: name("report"), value: "".into() },
        ];
        for gate in gates {
            assert_eq!(gate.to_string().parse::<Gate>().unwrap(), gate);
        }
        for text in ["", "definition", "definition/", "key/report", "other/report", "rate/Not A Name"] {
            assert!(text.parse::<Gate>().is_err(), "{text}");
        }
    }

    #[test]
    fn gates_are_what_the_definition_limits() {
        let limits = Limits {
            max_concurrent: Some(3),
            concurrency_key: Some("/company/name".to_owned()),
            rate_limit: Some(RateLimit { max: 1, per_sec: 1, burst: None }),
            ..Limits::default()
        };
        let texts = |params: &str, user| -> Vec<String> {
            Gates::of(&name("d"), &limits, &Json::trusted(params), user).as_slice().iter().map(Gate::to_string).collect()
        };
        assert_eq!(texts(r#"{"company":{"name":"Acme"}}"#, Some("eve")), ["key/d/Acme", "definition/d", "user/eve", "rate/d"]);
        assert_eq!(texts(r#"{"company":{"name":17}}"#, None), ["key/d/17", "definition/d", "rate/d"]);
        assert_eq!(texts(r#"{"company":{"name":null}}"#, None), ["definition/d", "rate/d"], "no value, no limit of its own");
        assert_eq!(texts("{}", None), ["definition/d", "rate/d"]);
        assert!(Gates::of(&name("d"), &Limits::default(), &Json::empty_object(), None).is_empty());
        let long = format!(r#"{{"company":{{"name":"{}"}}}}"#, "x".repeat(1_000));
        assert_eq!(texts(&long, None)[0].len(), "key/d/".len() + bounds::VALUE_CHARS_MAX);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_one_token_an_interval() {
        let rate = RateLimit { max: 10, per_sec: 1, burst: Some(3) };
        let limit = Some(GateLimit::Rate(rate));
        let mut gate = GateState::default();
        let mut passed = Vec::new();
        for milli in 0..1_000 {
            let now = at(milli * 1_000);
            assert_eq!(gate.room(limit, now) > 0, gate.is_open(limit, now), "at {milli} ms");
            while gate.is_open(limit, now) {
                gate.pass(limit, now);
                passed.push(milli);
            }
            assert_eq!(gate.opening(limit).is_some_and(|at| at > now), !gate.is_open(limit, now));
        }
        assert_eq!(passed, [0, 0, 0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    }

    proptest! {
        /// In any stretch of time there are at most the burst and as many as were refilled.
        #[test]
        fn no_stretch_of_time_has_more_starts_than_burst_and_refill(
            max in 1u32..50, per_sec in 1u32..30, burst in proptest::option::of(1u32..60), steps in proptest::collection::vec(0i64..3_000_000, 1..200)
        ) {
            let rate = RateLimit { max, per_sec, burst };
            let limit = Some(GateLimit::Rate(rate));
            let (mut gate, mut now, mut passed) = (GateState::default(), 0, Vec::new());
            for step in steps {
                now += step;
                let room = gate.room(limit, at(now));
                let mut count = 0;
                while gate.is_open(limit, at(now)) {
                    gate.pass(limit, at(now));
                    passed.push(now);
                    count += 1;
                }
                prop_assert_eq!(room, count);
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let refilled = (to - from) / rate.interval();
                    prop_assert!((last - first + 1) as i64 <= i64::from(burst.unwrap_or(max)) + refilled);
                }
            }
        }

        #[test]
        fn places_are_never_taken_twice(places in 1u32..20, moves in proptest::collection::vec(any::<bool>(), 1..200)) {
            let limit = Some(GateLimit::Places(places));
            let (mut gate, mut taken) = (GateState::default(), 0);
            for arrives in moves {
                if !arrives {
                    gate.leave(u32::from(taken > 0));
                    taken -= u32::from(taken > 0);
                } else if gate.is_open(limit, at(0)) {
                    gate.pass(limit, at(0));
                    taken += 1;
                }
                prop_assert!(taken <= places);
                prop_assert_eq!(gate.room(limit, at(0)), places - taken);
                prop_assert_eq!(gate.taken, taken);
            }
        }
    }
}
