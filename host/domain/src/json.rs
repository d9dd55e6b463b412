//! JSON text, checked once where it enters and carried as text from there.
//!
//! Text, because numbers keep their digits and nobody pays for a tree. Checked, because parsers differ on what both back ends must
//! hold alike: duplicate keys, NUL, and depth.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 100;

/// A JSON document as compact-or-not text. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJson {
    /// It does not parse, or breaks a rule that is named in the text.
    #[error("{0}")]
    Invalid(String),
    /// It is longer than it may be.
    #[error("{bytes} bytes of JSON are more than the {bytes_max} that are allowed here")]
    TooLong {
        /// What was given.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
}

impl Json {
    /// Checks `text`: one JSON value, no key twice in one object, no NUL, at most [`DEPTH_MAX`] deep, at most `bytes_max` long.
    pub fn parse(text: &str, bytes_max: usize) -> Result<Self, BadJson> {
        if text.len() > bytes_max {
            return Err(BadJson::TooLong { bytes: text.len(), bytes_max });
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Checked { depth: 0 }.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| BadJson::Invalid(error.to_string()))?;
        Ok(Self(text.trim().into()))
    }

    /// Wraps text that was checked before, such as what the store returns.
    pub fn trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Serialises a value. Fails only for maps whose keys are not strings.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::to_string(value)?.into()))
    }

    /// `{}`.
    pub fn empty_object() -> Self {
        Self("{}".into())
    }

    /// `null`.
    pub fn null() -> Self {
        Self("null".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads it as a type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Lays the top-level keys of `over` on those of `self`. Where either is no object, `over` wins whole.
    pub fn overlaid(&self, over: &Self) -> Self {
        if over.as_str() == "{}" {
            return self.clone();
        }
        if self.as_str() == "{}" {
            return over.clone();
        }
        // Raw values keep the digits of numbers that no float holds.
        let base: Result<std::collections::BTreeMap<String, &RawValue>, _> = serde_json::from_str(&self.0);
        let top: Result<std::collections::BTreeMap<String, &RawValue>, _> = serde_json::from_str(&over.0);
        match (base, top) {
            (Ok(mut base), Ok(top)) => {
                base.extend(top);
                Self::of(&base).unwrap_or_else(|_| over.clone())
            }
            _ => over.clone(),
        }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    /// From inside a larger document. The size is the document's affair; every other rule is checked.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get(), usize::MAX).map_err(serde::de::Error::custom)
    }
}

/// Walks a document and keeps nothing of it.
#[derive(Clone, Copy)]
struct Checked {
    depth: usize,
}

impl Checked {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format!("nested more than {DEPTH_MAX} deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

fn no_nul<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("the character NUL (\\u0000) is not allowed in text")) } else { Ok(()) }
}

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        no_nul(text)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = fields.next_key::<std::borrow::Cow<'de, str>>()? {
            no_nul(&key)?;
            if seen.contains(&key) {
                return Err(serde::de::Error::custom(format!("key `{}` stands twice in one object", key.escape_debug())));
            }
            seen.insert(key);
            fields.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_back_ends_cannot_hold_alike_is_refused() {
        for bad in ["", "{", "{\"a\":1,\"a\":2}", "[{\"a\":1,\"\\u0061\":2}]", "\"\\u0000\"", "{\"\\u0000\":1}", "1 2", "NaN", "1e999", "\"\\ud800\""] {
            assert!(Json::parse(bad, 1_000).is_err(), "{bad}");
        }
        let deep = "[".repeat(DEPTH_MAX + 1) + &"]".repeat(DEPTH_MAX + 1);
        assert!(Json::parse(&deep, 1_000).is_err());
        assert_eq!(Json::parse("[1,2]", 4), Err(BadJson::TooLong { bytes: 5, bytes_max: 4 }));
    }

    #[test]
    fn digits_survive() {
        let text = r#"{"big":18446744073709551616,"exact":0.10000000000000000555}"#;
        let json = Json::parse(text, 1_000).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
        assert_eq!(json.overlaid(&Json::parse(r#"{"z":1}"#, 10).unwrap()).as_str(), r#"{"big":18446744073709551616,"exact":0.10000000000000000555,"z":1}"#);
    }
}
