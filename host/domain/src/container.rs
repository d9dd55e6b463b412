//! What a definition may say about the container that its steps run in.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::definition::{FieldError, ResourceProfile};
use crate::word_enum;

/// Bounds of the numbers, inclusive.
pub mod bounds {
    use super::RangeInclusive;

    /// Bytes of memory: no engine starts anything in less.
    pub const MEMORY_BYTES: RangeInclusive<u64> = 6 << 20..=64 << 30;
    /// Processors.
    pub const CPUS: RangeInclusive<f64> = 0.05..=64.0;
    /// Processes and threads.
    pub const PIDS: RangeInclusive<u32> = 1..=4_096;
    /// Bytes of `/tmp`.
    pub const TMP_BYTES_MAX: u64 = 1 << 30;
    /// Words of a command, and entries of an environment.
    pub const WORDS_MAX: usize = 64;
    /// Bytes of one of them.
    pub const WORD_BYTES_MAX: usize = 4_096;
}

word_enum! {
    /// How a container takes its step.
    pub enum Protocol {
        /// On its standard input; it answers on its standard output, and with its exit code.
        Command = "COMMAND",
        /// By HTTP: it listens on a port.
        Service = "SERVICE",
    }
}

word_enum! {
    /// How long a container lives.
    pub enum Mode {
        /// For one step.
        Ephemeral = "EPHEMERAL",
        /// For one step after another, until it is idle for too long.
        Persistent = "PERSISTENT",
    }
}

word_enum! {
    /// What a container reaches.
    pub enum Network {
        /// Nothing but the tower.
        None = "NONE",
        /// What the machine reaches.
        Outside = "OUTSIDE",
    }
}

word_enum! {
    /// When an image is fetched.
    pub enum Pull {
        /// If it is not there.
        Missing = "MISSING",
        /// Never: somebody puts it there.
        Never = "NEVER",
        /// Before every container.
        Always = "ALWAYS",
    }
}

fn command() -> Protocol {
    Protocol::Command
}
fn ephemeral() -> Mode {
    Mode::Ephemeral
}
fn no_network() -> Network {
    Network::None
}
fn missing() -> Pull {
    Pull::Missing
}
fn port() -> u16 {
    8080
}

/// A container of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// How it takes its step.
    #[serde(default = "command")]
    pub protocol: Protocol,
    /// How long it lives.
    #[serde(default = "ephemeral")]
    pub mode: Mode,
    /// Arguments in place of the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Where a service listens.
    #[serde(default = "port")]
    pub port: u16,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Bytes of memory; none: `resource_profile.memory_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processors; none: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Processes and threads; none: 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Bytes of `/tmp`, the one place that it may write; none: 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tmp_bytes: Option<u64>,
    /// What it reaches.
    #[serde(default = "no_network")]
    pub network: Network,
    /// Who it runs as, `uid:gid`; none: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When its image is fetched.
    #[serde(default = "missing")]
    pub pull: Pull,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        Self {
            protocol: command(),
            mode: ephemeral(),
            command: None,
            port: port(),
            env: BTreeMap::new(),
            memory_bytes: None,
            cpus: None,
            pids: None,
            tmp_bytes: None,
            network: no_network(),
            user: None,
            pull: missing(),
        }
    }
}

impl ContainerSpec {
    /// Who it runs as unless something else is said: `nobody` and `nogroup` almost everywhere, and root nowhere.
    pub const USER: &str = "65534:65534";

    /// Bytes of memory that it gets, swap included.
    pub fn memory(&self, profile: &ResourceProfile) -> u64 {
        self.memory_bytes.unwrap_or(profile.memory_bytes.max(*bounds::MEMORY_BYTES.start()))
    }

    /// Processors that it gets.
    pub fn cpus(&self) -> f64 {
        self.cpus.unwrap_or(1.0)
    }

    /// Processes and threads that it gets.
    pub fn pids(&self) -> u32 {
        self.pids.unwrap_or(64)
    }

    /// Bytes of `/tmp` that it gets.
    pub fn tmp(&self) -> u64 {
        self.tmp_bytes.unwrap_or(16 << 20)
    }

    /// Who it runs as.
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(Self::USER)
    }

    /// Every field that is out of bounds.
    pub(crate) fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut need = |ok: bool, pointer: &'static str, message: String| {
            if !ok {
                errors.push(FieldError { pointer, message });
            }
        };
        need(
            self.mode == Mode::Ephemeral || self.protocol == Protocol::Service,
            "/container/mode",
            "PERSISTENT needs the protocol SERVICE: a command ends with its step".to_owned(),
        );
        let words = self.command.as_deref().unwrap_or_default();
        need(
            self.command.is_none() || (1..=bounds::WORDS_MAX).contains(&words.len()) && words.iter().all(|word| is_word(word)),
            "/container/command",
            format!("1 to {} words of at most {} bytes, without NUL", bounds::WORDS_MAX, bounds::WORD_BYTES_MAX),
        );
        need(self.port > 0, "/container/port", "1 to 65535".to_owned());
        need(
            self.env.len() <= bounds::WORDS_MAX && self.env.iter().all(|(name, value)| is_variable(name) && is_word(value)),
            "/container/env",
            format!(
                "at most {} variables, named with letters, digits and `_` but not `TOWER_…`, each of at most {} bytes without NUL",
                bounds::WORDS_MAX,
                bounds::WORD_BYTES_MAX
            ),
        );
        need(
            self.memory_bytes.is_none_or(|bytes| bounds::MEMORY_BYTES.contains(&bytes)),
            "/container/memory_bytes",
            format!("{} to {} bytes", bounds::MEMORY_BYTES.start(), bounds::MEMORY_BYTES.end()),
        );
        need(
            self.cpus.is_none_or(|cpus| bounds::CPUS.contains(&cpus)),
            "/container/cpus",
            format!("{} to {} processors", bounds::CPUS.start(), bounds::CPUS.end()),
        );
        need(
            self.pids.is_none_or(|pids| bounds::PIDS.contains(&pids)),
            "/container/pids",
            format!("{} to {} processes", bounds::PIDS.start(), bounds::PIDS.end()),
        );
        need(
            self.tmp_bytes.is_none_or(|bytes| bytes <= bounds::TMP_BYTES_MAX),
            "/container/tmp_bytes",
            format!("at most {} bytes; 0 for no /tmp", bounds::TMP_BYTES_MAX),
        );
        need(self.user.as_deref().is_none_or(is_user), "/container/user", "numbers such as `1000:1000`: names mean something else in every image".to_owned());
        errors
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= bounds::WORD_BYTES_MAX && !text.contains('\0')
}

fn is_variable(name: &str) -> bool {
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name && (1..=128).contains(&name.len()) && !name.starts_with(|first: char| first.is_ascii_digit()) && !name.starts_with("TOWER_")
}

fn is_user(text: &str) -> bool {
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    [user, group].iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let of = |json: &str| serde_json::from_str::<ContainerSpec>(json).unwrap().check().into_iter().map(|error| error.pointer).collect::<Vec<_>>();
        assert!(of("{}").is_empty());
        assert!(of(r#"{"protocol":"SERVICE","mode":"PERSISTENT","port":80,"env":{"A_1":"b"},"user":"1000:1000","cpus":0.5,"pids":8}"#).is_empty());
        for (json, pointer) in [
            (r#"{"mode":"PERSISTENT"}"#, "/container/mode"),
            (r#"{"command":[]}"#, "/container/command"),
            (r#"{"port":0}"#, "/container/port"),
            (r#"{"env":{"TOWER_TOKEN":"x"}}"#, "/container/env"),
            (r#"{"env":{"a b":"x"}}"#, "/container/env"),
            (r#"{"memory_bytes":1024}"#, "/container/memory_bytes"),
            (r#"{"cpus":0.0}"#, "/container/cpus"),
            (r#"{"pids":0}"#, "/container/pids"),
            (r#"{"tmp_bytes":2000000000}"#, "/container/tmp_bytes"),
            (r#"{"user":"root"}"#, "/container/user"),
        ] {
            assert_eq!(of(json), [pointer], "{json}");
        }
    }
}
