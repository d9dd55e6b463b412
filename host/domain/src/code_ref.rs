//! Where a definition's code is: the text that chooses the executor.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

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

/// Longest `code_ref`, in bytes.
pub const CODE_REF_BYTES_MAX: usize = 1_024;

/// A container image: `[registry[:port]/]path[:tag][@sha256:…]`, in lower case as the Docker Engine wants it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef(Arc<str>);

impl ImageRef {
    const RULE: &str = "an image is named `docker://[registry/]name[:tag]` or `docker://…@sha256:<64 hex digits>`, in lower case";

    /// What the Docker Engine calls it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names exact bytes, and not whatever a tag points at.
    pub fn is_pinned(&self) -> bool {
        self.0.contains("@sha256:")
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageRef {
    type Err = BadCodeRef;
    fn from_str(text: &str) -> Result<Self, BadCodeRef> {
        let bad = || BadCodeRef { got: text.chars().take(64).collect(), rule: Self::RULE };
        let (named, digest) = text.split_once('@').map_or((text, None), |(named, digest)| (named, Some(digest)));
        if let Some(digest) = digest {
            digest.parse::<Digest>().map_err(|_| bad())?;
        }
        let last = named.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = named[last..].split_once(':').map_or((named, None), |(name, tag)| (&named[..last + name.len()], Some(tag)));
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let parts_are_sound = path.split('/').enumerate().all(|(number, part)| {
            let registry = number == 0 && path.contains('/');
            let bytes = part.as_bytes();
            !bytes.is_empty()
                && is_word(bytes[0])
                && is_word(bytes[bytes.len() - 1])
                && bytes.iter().all(|byte| is_word(*byte) || matches!(byte, b'.' | b'_' | b'-') || (registry && *byte == b':'))
        });
        let tag_is_sound = tag.is_none_or(|tag| {
            (1..=128).contains(&tag.len())
                && !tag.starts_with(['.', '-'])
                && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        });
        if parts_are_sound && tag_is_sound && text.len() <= CODE_REF_BYTES_MAX { Ok(Self(text.into())) } else { Err(bad()) }
    }
}

/// Where an outside worker takes steps by POST: an `http` or `https` URL without user, password and fragment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerUrl(Arc<str>);

impl WorkerUrl {
    /// The whole of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WorkerUrl {
    type Err = BadCodeRef;
    fn from_str(text: &str) -> Result<Self, BadCodeRef> {
        let rule = "a worker is `http://host[:port]/path` or `https://…`, at most 1024 visible ASCII characters, without user, password and `#`";
        let bad = || BadCodeRef { got: text.chars().take(64).collect(), rule };
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(bad)?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let is_plain =
            text.len() <= CODE_REF_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'"' | b'<' | b'>'));
        let has_host = !authority.is_empty() && !authority.contains('@') && !authority.starts_with(':');
        if is_plain && has_host { Ok(Self(text.into())) } else { Err(bad()) }
    }
}

/// What stands in a definition's `code_ref`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CodeRef {
    /// `wasm://…`: an uploaded component, run in process.
    Wasm(ModuleRef),
    /// `docker://…`: a container.
    Container(ImageRef),
    /// `http://…`, `https://…`: an outside worker that takes the step by POST.
    Http(WorkerUrl),
    /// `worker://…`: outside workers that fetch steps from this queue.
    Queue(Name),
}

impl CodeRef {
    /// Where its tasks wait to be claimed.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Wasm(_) => Lane::Process,
            Self::Container(_) => Lane::Containers,
            Self::Http(_) => Lane::Http,
            Self::Queue(queue) => Lane::Queue(queue.clone()),
        }
    }
}

impl fmt::Display for CodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wasm(module) => write!(f, "wasm://{module}"),
            Self::Container(image) => write!(f, "docker://{image}"),
            Self::Http(url) => url.fmt(f),
            Self::Queue(queue) => write!(f, "worker://{queue}"),
        }
    }
}

impl FromStr for CodeRef {
    type Err = BadCodeRef;
    fn from_str(text: &str) -> Result<Self, BadCodeRef> {
        let bad = |rule| BadCodeRef { got: text.chars().take(64).collect(), rule };
        if let Some(module) = text.strip_prefix("wasm://") {
            Ok(Self::Wasm(module.parse()?))
        } else if let Some(image) = text.strip_prefix("docker://") {
            Ok(Self::Container(image.parse()?))
        } else if let Some(queue) = text.strip_prefix("worker://") {
            let queue =
                Name::new(queue).map_err(|_| bad("a queue is `worker://name`: a-z, 0-9, `.`, `_` and `-`, at most 128, the first a letter or digit"))?;
            Ok(Self::Queue(queue))
        } else if text.starts_with("http://") || text.starts_with("https://") {
            Ok(Self::Http(text.parse()?))
        } else {
            Err(bad("`wasm://name[:tag]`, `wasm://sha256:…`, `docker://image[:tag]`, `worker://queue`, `http://…` or `https://…`"))
        }
    }
}

/// Where a task waits to be claimed, by what runs its code. A host claims of each lane as many as it has room for, so that nothing is
/// claimed that cannot begin: tasks of a queue that no worker asks wait, and take nobody's place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Run in the host's process.
    #[default]
    Process,
    /// Run in containers.
    Containers,
    /// Handed to outside workers by POST.
    Http,
    /// Fetched by outside workers.
    Queue(Name),
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("wasm"),
            Self::Containers => f.write_str("docker"),
            Self::Http => f.write_str("http"),
            Self::Queue(queue) => write!(f, "worker/{queue}"),
        }
    }
}

impl Serialize for Lane {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lane {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is no lane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a lane: `wasm`, `docker`, `http` or `worker/QUEUE`")]
pub struct BadLane(pub String);

impl FromStr for Lane {
    type Err = BadLane;
    fn from_str(text: &str) -> Result<Self, BadLane> {
        let bad = || BadLane(text.chars().take(64).collect());
        match text {
            "wasm" => Ok(Self::Process),
            "docker" => Ok(Self::Containers),
            "http" => Ok(Self::Http),
            _ => Name::new(text.strip_prefix("worker/").ok_or_else(bad)?).map(Self::Queue).map_err(|_| bad()),
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
        for bad in ["", "router", "wasm://", "wasm://a:b:c", "wasm://sha256:0A", "ftp://x", "wasm://../x", "wasm://Router"] {
            assert!(bad.parse::<CodeRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn code_outside_is_named_by_image_url_or_queue() {
        let pinned = format!("docker://registry.example:5000/team/tool:1.2@sha256:{}", "0a".repeat(32));
        for (given, lane) in [
            ("docker://tool", "docker"),
            ("docker://tool:1.2", "docker"),
            (&*pinned, "docker"),
            ("http://127.0.0.1:9000/run?x=1", "http"),
            ("https://worker.example", "http"),
            ("worker://gpu", "worker/gpu"),
        ] {
            let code: CodeRef = given.parse().unwrap();
            assert_eq!((code.to_string().as_str(), code.lane().to_string().as_str()), (given, lane));
            assert_eq!(lane.parse(), Ok(code.lane()));
        }
        for bad in [
            "docker://",
            "docker://Tool",
            "docker://a b",
            "docker://tool:",
            "docker://tool@sha256:00",
            "docker://-v",
            "docker://../x",
            "docker://a//b",
            "worker://",
            "worker://a/b",
            "http://",
            "http://:80",
            "https://user:secret@host/",
            "http://host/#part",
            "http://host/a b",
        ] {
            assert!(bad.parse::<CodeRef>().is_err(), "{bad}");
        }
    }
}
