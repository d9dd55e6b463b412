//! Ids: ULIDs behind newtypes, so that a task's id cannot stand where a trace's belongs.

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use crate::clock::Clock;

/// The text is not a canonical ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is not an id: 26 characters of Crockford base 32 in upper case are expected, such as 01JD3R5N7Q8V9W0X1Y2Z3A4B5C")]
pub struct BadId {
    /// What was given, cut at 64 characters.
    pub got: String,
}

fn parse(text: &str, prefix: &str) -> Result<Ulid, BadId> {
    let bare = text.strip_prefix(prefix).unwrap_or(text);
    // Overflowing text (`8ZZZ…`) decodes to another id: only what re-encodes to itself is one.
    Ulid::from_string(bare).ok().filter(|ulid| ulid.to_string() == bare).ok_or_else(|| BadId { got: text.chars().take(64).collect() })
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Ulid);

        impl $name {
            /// What may stand before the id in text, to tell people which kind it is.
            pub const PREFIX: &'static str = $prefix;

            /// The 16 bytes, most significant first.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_bytes()
            }

            /// From the 16 bytes of [`Self::to_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Ulid::from_bytes(bytes))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0.array_to_str(&mut [0; ulid::ULID_LEN]))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                parse(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// One run of a definition. Its bytes are the W3C trace id.
    TraceId,
    "trc_"
);
id!(
    /// A node of a trace's tree.
    TaskId,
    "tsk_"
);
id!(
    /// A user's continuing work.
    SessionId,
    "ses_"
);
id!(
    /// Somebody's order.
    ControlEventId,
    "ctl_"
);

/// Where new ids come from: one a process, so that ids are in the order in which they were made.
pub trait IdSource: Send + Sync {
    /// A ULID greater than any that this source has given.
    fn next(&self) -> Ulid;

    /// The id of a new trace.
    fn trace(&self) -> TraceId {
        TraceId(self.next())
    }

    /// The id of a new task.
    fn task(&self) -> TaskId {
        TaskId(self.next())
    }

    /// The id of a new session.
    fn session(&self) -> SessionId {
        SessionId(self.next())
    }

    /// The id of a new order.
    fn control_event(&self) -> ControlEventId {
        ControlEventId(self.next())
    }
}

/// Monotonic ids: milliseconds from a clock, then random bits, then counting up within a millisecond.
pub struct MonotonicIds<C> {
    clock: C,
    last: Mutex<Ulid>,
}

impl<C: Clock> MonotonicIds<C> {
    /// A source that reads `clock`.
    pub fn new(clock: C) -> Self {
        Self { clock, last: Mutex::new(Ulid::nil()) }
    }
}

impl<C: Clock> IdSource for MonotonicIds<C> {
    fn next(&self) -> Ulid {
        let now_ms = u64::try_from(self.clock.now().as_micros() / 1_000).unwrap_or(0);
        let mut last = self.last.lock();
        // A clock that stands still or steps back must not lead to a smaller id.
        let next = if now_ms > last.timestamp_ms() {
            // 79 random bits: the top bit stays free, so that counting up cannot overflow.
            Ulid::from_parts(now_ms, rand::random::<u128>() >> 49)
        } else {
            Ulid(last.0 + 1)
        };
        *last = next;
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn ids_rise_even_when_the_clock_steps_back() {
        let clock = std::sync::Arc::new(ManualClock::at_micros(5_000_000));
        let ids = MonotonicIds::new(clock.clone());
        let first = ids.next();
        clock.set_micros(1_000_000);
        let second = ids.next();
        clock.set_micros(9_000_000);
        let third = ids.next();
        assert!(first < second && second < third);
        assert_eq!(third.timestamp_ms(), 9_000);
    }

    #[test]
    fn only_canonical_text_is_an_id() {
        let id = TaskId(Ulid::from_parts(1_700_000_000_000, 42));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("tsk_{id}").parse(), Ok(id));
        for bad in ["", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", &id.to_string().to_lowercase(), &format!("trc_{id}"), "01ARZ3NDEKTSV4RRFFQ69G5FAU "] {
            assert!(bad.parse::<TaskId>().is_err(), "{bad}");
        }
    }
}
