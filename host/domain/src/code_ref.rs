//! Where a definition's code is: the text that chooses the executor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name::Name;

/// SHA-256 of a module's bytes: its identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = BadCodeRef;
    fn from_str(text: &str) -> Result<Self, BadCodeRef> {
        let bad = || BadCodeRef { got: text.chars().take(64).collect(), rule: "a digest is `sha256:` and 64 hexadecimal digits in lower case" };
        let digits = text.strip_prefix("sha256:").filter(|rest| rest.len() == 64 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        let digits = digits.ok_or_else(bad)?;
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Names one uploaded component: `name`, `name:tag` or `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModuleRef {
    /// Whatever the tag points at when the step runs. Without a tag: `latest`.
    Tag {
        /// The module's name.
        name: Name,
        /// The movable tag.
        tag: Name,
    },
    /// Exactly these bytes.
    Digest(Digest),
}

/// The tag that a reference without one means.
pub const LATEST: &str = "latest";

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { name, tag } => write!(f, "{name}:{tag}"),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl FromStr for ModuleRef {
    type Err = BadCodeRef;
    fn from_str(text: &str) -> Result<Self, BadCodeRef> {
        if text.starts_with("sha256:") {
            return Ok(Self::Digest(text.parse()?));
        }
        let (name, tag) = text.split_once(':').unwrap_or((text, LATEST));
        match (Name::new(name), Name::new(tag)) {
            (Ok(name), Ok(tag)) => Ok(Self::Tag { name, tag }),
            _ => Err(BadCodeRef { got: text.chars().take(64).collect(), rule: "a module is named `name`, `name:tag` or `sha256:<64 hex digits>`" }),
        }
    }
}

/// The text is no reference to code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{got}` is no code_ref: {rule}")]
pub struct BadCodeRef {
    /// What was given, cut at 64 characters.
    pub got: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

/// What stands in a definition's `code_ref`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CodeRef {
    /// `wasm://…`: an uploaded component, run in process.
    Wasm(ModuleRef),
}

impl fmt::Display for CodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wasm(module) => write!(f, "wasm://{module}"),
        }
    }
}

impl FromStr for CodeRef {
    type Err = BadCodeRef;
    fn from_str(text: &str) -> Result<Self, BadCodeRef> {
        match text.strip_prefix("wasm://") {
            Some(module) => Ok(Self::Wasm(module.parse()?)),
            None => {
                Err(BadCodeRef { got: text.chars().take(64).collect(), rule: "this version of the tower runs `wasm://name[:tag]` and `wasm://sha256:…`" })
            }
        }
    }
}

impl Serialize for CodeRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CodeRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_forms_read_back() {
        let digest = format!("wasm://sha256:{}", "0a".repeat(32));
        for (given, shown) in [("wasm://router", "wasm://router:latest"), ("wasm://router:1.4.0", "wasm://router:1.4.0"), (&digest, &*digest)] {
            assert_eq!(given.parse::<CodeRef>().unwrap().to_string(), shown);
        }
        for bad in ["", "router", "wasm://", "wasm://a:b:c", "wasm://sha256:0A", "docker://x", "wasm://../x", "wasm://Router"] {
            assert!(bad.parse::<CodeRef>().is_err(), "{bad}");
        }
    }
}
