//! Task definitions: the templates that traces and children are made from.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::code_ref::CodeRef;
use crate::container::ContainerSpec;
use crate::json::Json;
use crate::limit::{self, Limits, RateLimit};
use crate::name::Name;
use crate::retry::RetryPolicy;
use crate::schedule::{self, LoopConfig, Misfire, Overlap, ScheduleType, Window};
use crate::session::WorkspaceAccess;
use crate::task::ActorType;

/// Bounds of the numbers in a definition, inclusive.
pub mod bounds {
    use std::ops::RangeInclusive;

    /// Seconds of wall time for one attempt.
    pub const TIMEOUT_SEC: RangeInclusive<u32> = 1..=86_400;
    /// Retries after the first attempt.
    pub const MAX_RETRIES: RangeInclusive<u32> = 0..=100;
    /// 10 is the most urgent.
    pub const PRIORITY: RangeInclusive<u8> = 1..=10;
    /// Layers of agents below a root.
    pub const MAX_LAYERS: RangeInclusive<u32> = 0..=1_000;
    /// Children of one task.
    pub const MAX_CHILDREN: RangeInclusive<u32> = 0..=1_000_000;
    /// Bytes of a definition's free texts (`name`, `role`, `description`, `user_id`).
    pub const TEXT_BYTES_MAX: usize = 1_024;
    /// Bytes of params, schema and outputs.
    pub const JSON_BYTES_MAX: usize = 1024 * 1024;
    /// Entries of `strategy_tags`.
    pub const TAGS_MAX: usize = 64;
}

/// When a task that split counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "policy", deny_unknown_fields)]
pub enum AggregationPolicy {
    /// Any child that did not succeed fails the parent.
    #[serde(rename = "ALL")]
    All,
    /// `aggregate` runs when at least `min_success` children succeeded.
    #[serde(rename = "PARTIAL")]
    Partial {
        /// 0 is the same as ALWAYS.
        #[serde(default = "one")]
        min_success: u32,
    },
    /// `aggregate` runs whatever became of the children.
    #[serde(rename = "ALWAYS")]
    Always,
}

fn one() -> u32 {
    1
}

impl Default for AggregationPolicy {
    fn default() -> Self {
        Self::Partial { min_success: 1 }
    }
}

/// What a definition grants its code. Everything else is not linked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// A folder that the operator declared under this name, shown read-only at `/workspace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Name>,
    /// The workspace of the trace's session, shown at `/workspace`: in a trace without a session there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<WorkspaceAccess>,
}

/// What one step may use. Finite by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceProfile {
    /// All linear memories and tables of a step together, in bytes. Default 64 MiB.
    pub memory_bytes: u64,
    /// CPU time of an attempt, in milliseconds. Default 60 000.
    pub cpu_ms: u64,
    /// Wasm stack in bytes is the engine's affair and the same for all: 512 KiB.
    /// Bytes of log lines (stdout, stderr and `report.log`) kept of an attempt. Default 1 MiB.
    pub log_bytes: u64,
}

impl Default for ResourceProfile {
    fn default() -> Self {
        Self { memory_bytes: 64 << 20, cpu_ms: 60_000, log_bytes: 1 << 20 }
    }
}

impl ResourceProfile {
    /// Most memory that a definition may ask for, in bytes.
    pub const MEMORY_BYTES_MAX: u64 = 4 << 30;
    /// Most CPU time that a definition may ask for, in milliseconds: a day.
    pub const CPU_MS_MAX: u64 = 86_400_000;
    /// Most log that a definition may ask for, in bytes.
    pub const LOG_BYTES_MAX: u64 = 64 << 20;
}

/// What may be said about a definition; everything but its id, version and times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefinitionSpec {
    /// For people; the id when absent.
    #[serde(default)]
    pub name: String,
    /// Owner.
    #[serde(default)]
    pub user_id: String,
    /// A line or two for people.
    #[serde(default)]
    pub description: String,
    /// The part that its tasks play.
    pub actor_type: ActorType,
    /// A free word that the code is told.
    #[serde(default)]
    pub role: String,
    /// Where its code is.
    pub code_ref: CodeRef,
    /// Free words for people and filters.
    #[serde(default)]
    pub strategy_tags: Vec<String>,
    /// Params that a trigger's are laid over.
    #[serde(default = "Json::empty_object")]
    pub default_params: Json,
    /// JSON Schema (draft 2020-12) that params must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params_schema: Option<Json>,
    /// Wall time of an attempt in seconds.
    #[serde(default = "default_timeout_sec")]
    pub timeout_sec: u32,
    /// Retries after the first attempt.
    #[serde(default = "default_max_retries")]
    pub max_retries: u32,
    /// How long to wait before them.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// 1–10, 10 the most urgent.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Deepest layer at which a task of this definition may stand and still split, plus one.
    #[serde(default = "default_max_layers")]
    pub max_layers: u32,
    /// Most children of one task.
    #[serde(default = "default_max_children")]
    pub max_children: u32,
    /// What becomes of a task whose children have ended.
    #[serde(default)]
    pub aggregation: AggregationPolicy,
    /// What its code is granted.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What a step may use.
    #[serde(default)]
    pub resource_profile: ResourceProfile,
    /// An inactive one can neither be triggered nor split to.
    #[serde(default = "yes")]
    pub is_active: bool,
    /// Labels for filters.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    // What follows came later: absent where it says nothing, so that what is stored reads and compares as before.
    /// What kind of schedule it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub schedule_type: ScheduleType,
    /// When a ONCE or LOOP runs by itself; none: when it is triggered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// When a CRON fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron_expr: Option<String>,
    /// The IANA name of the zone of `cron_expr`.
    #[serde(default = "utc", skip_serializing_if = "is_utc")]
    pub timezone: String,
    /// Seconds between the firings of a CRON without an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_sec: Option<u32>,
    /// The rounds of a LOOP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loop_config: Option<LoopConfig>,
    /// When its tasks may run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub window: Window,
    /// What becomes of firings that were missed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub misfire: Misfire,
    /// What becomes of firings while the last trace still runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// Roots of firings run up to so many seconds later.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jitter_sec: u32,
    /// A CRON does not fire before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// A CRON does not fire from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Tasks of it that run at once, over all traces and hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
    /// JSON Pointer (RFC 6901) into the params: tasks with the same value there share a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// Tasks with one value of the key that run at once; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent_per_key: Option<u32>,
    /// Tasks of it that begin in a while, over all traces and hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Whether code outside of the host folds the results of its children. Components say it by what they export.
    #[serde(default, skip_serializing_if = "is_default")]
    pub folds: bool,
    /// The container that its code runs in, for `docker://` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerSpec>,
}

fn utc() -> String {
    "UTC".to_owned()
}
fn is_utc(zone: &str) -> bool {
    zone == "UTC"
}
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
fn default_timeout_sec() -> u32 {
    300
}
fn default_max_retries() -> u32 {
    3
}
fn default_priority() -> u8 {
    5
}
fn default_max_layers() -> u32 {
    8
}
fn default_max_children() -> u32 {
    10_000
}
fn yes() -> bool {
    true
}

/// A field of a definition is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer to the field.
    pub pointer: &'static str,
    /// What would be right.
    pub message: String,
}

impl DefinitionSpec {
    /// Every field that is out of bounds; none: the definition is sound as far as it says itself.
    pub fn check(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut need = |ok: bool, pointer: &'static str, message: String| {
            if !ok {
                errors.push(FieldError { pointer, message });
            }
        };
        for (pointer, text) in [("/name", &self.name), ("/user_id", &self.user_id), ("/description", &self.description), ("/role", &self.role)] {
            need(is_plain(text), pointer, format!("at most {} bytes of text without control characters", bounds::TEXT_BYTES_MAX));
        }
        need(
            self.strategy_tags.len() <= bounds::TAGS_MAX && self.strategy_tags.iter().all(|tag| !tag.is_empty() && is_plain(tag)),
            "/strategy_tags",
            format!("at most {} tags, none empty", bounds::TAGS_MAX),
        );
        need(labels_are_sound(&self.labels), "/labels", LABEL_RULE.to_owned());
        need(
            bounds::TIMEOUT_SEC.contains(&self.timeout_sec),
            "/timeout_sec",
            format!("{} to {} seconds", bounds::TIMEOUT_SEC.start(), bounds::TIMEOUT_SEC.end()),
        );
        need(bounds::MAX_RETRIES.contains(&self.max_retries), "/max_retries", format!("{} to {}", bounds::MAX_RETRIES.start(), bounds::MAX_RETRIES.end()));
        need(bounds::PRIORITY.contains(&self.priority), "/priority", "1 to 10, 10 the most urgent".to_owned());
        need(bounds::MAX_LAYERS.contains(&self.max_layers), "/max_layers", format!("at most {}", bounds::MAX_LAYERS.end()));
        need(bounds::MAX_CHILDREN.contains(&self.max_children), "/max_children", format!("at most {}", bounds::MAX_CHILDREN.end()));
        need(self.default_params.as_str().len() <= bounds::JSON_BYTES_MAX, "/default_params", format!("at most {} bytes", bounds::JSON_BYTES_MAX));
        need(self.default_params.as_str().starts_with('{'), "/default_params", "a JSON object".to_owned());
        if let AggregationPolicy::Partial { min_success } = self.aggregation {
            need(
                min_success <= *bounds::MAX_CHILDREN.end(),
                "/aggregation/min_success",
                format!("at most {}: no task has more children", bounds::MAX_CHILDREN.end()),
            );
        }
        need(
            self.capabilities.workspace.is_none() || self.capabilities.session.is_none(),
            "/capabilities/session",
            "not together with `capabilities.workspace`: both are shown at /workspace".to_owned(),
        );
        need(self.retry.is_sound(), "/retry", RetryPolicy::RULE.to_owned());
        let profile = self.resource_profile;
        need(
            (65_536..=ResourceProfile::MEMORY_BYTES_MAX).contains(&profile.memory_bytes),
            "/resource_profile/memory_bytes",
            format!("65536 to {} bytes", ResourceProfile::MEMORY_BYTES_MAX),
        );
        need(
            (1..=ResourceProfile::CPU_MS_MAX).contains(&profile.cpu_ms),
            "/resource_profile/cpu_ms",
            format!("1 to {} milliseconds", ResourceProfile::CPU_MS_MAX),
        );
        need(profile.log_bytes <= ResourceProfile::LOG_BYTES_MAX, "/resource_profile/log_bytes", format!("at most {} bytes", ResourceProfile::LOG_BYTES_MAX));
        self.check_limits(&mut need);
        need(
            !self.folds || !matches!(self.code_ref, CodeRef::Wasm(_)),
            "/folds",
            "is for code outside of the host; a component folds if it exports `aggregate`".to_owned(),
        );
        need(
            self.container.is_none() || matches!(self.code_ref, CodeRef::Container(_)),
            "/container",
            "is for code_ref `docker://…`; other code runs in no container".to_owned(),
        );
        if let Some(container) = &self.container {
            errors.extend(container.check());
        }
        errors.extend(schedule::check::check(self));
        errors
    }

    fn check_limits(&self, need: &mut impl FnMut(bool, &'static str, String)) {
        let places = limit::bounds::MAX_CONCURRENT;
        let within = format!("{} to {} tasks at once; leave it out for no limit", places.start(), places.end());
        need(self.max_concurrent.is_none_or(|most| places.contains(&most)), "/max_concurrent", within.clone());
        need(self.max_concurrent_per_key.is_none_or(|most| places.contains(&most)), "/max_concurrent_per_key", within);
        need(
            self.max_concurrent_per_key.is_none() || self.concurrency_key.is_some(),
            "/max_concurrent_per_key",
            "needs `concurrency_key`: where in the params the value is that tasks share it by".to_owned(),
        );
        need(
            self.concurrency_key.as_ref().is_none_or(|pointer| is_pointer(pointer)),
            "/concurrency_key",
            format!("a JSON Pointer into the params such as `/company`, at most {} bytes", limit::bounds::KEY_BYTES_MAX),
        );
        need(self.rate_limit.is_none_or(|rate| rate.is_sound()), "/rate_limit", RateLimit::RULE.to_owned());
    }

    /// How many of its tasks may run at once, and begin in a while.
    pub fn limits(&self) -> Limits {
        Limits {
            max_concurrent: self.max_concurrent,
            concurrency_key: self.concurrency_key.clone(),
            max_concurrent_per_key: self.max_concurrent_per_key,
            rate_limit: self.rate_limit,
        }
    }

    /// Wall time of an attempt.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_sec.into())
    }
}

/// What labels may be, in words.
pub const LABEL_RULE: &str = "at most 64 labels; keys of 1 to 128 and values of at most 256 bytes, without control characters";

/// Whether labels are within [`LABEL_RULE`].
pub fn labels_are_sound(labels: &BTreeMap<String, String>) -> bool {
    labels.len() <= 64 && labels.iter().all(|(key, value)| (1..=128).contains(&key.len()) && value.len() <= 256 && is_plain(key) && is_plain(value))
}

/// Whether a text is a JSON Pointer to something inside of a document.
fn is_pointer(text: &str) -> bool {
    let escapes_are_whole = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.starts_with('/') && text.len() <= limit::bounds::KEY_BYTES_MAX && escapes_are_whole && !text.chars().any(char::is_control)
}

/// Whether a text may stand in a field for people.
pub fn is_plain(text: &str) -> bool {
    text.len() <= bounds::TEXT_BYTES_MAX && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t')
}

/// One version of a definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// What people call it.
    pub id: Name,
    /// Counts the changes, from 1.
    pub version: u32,
    /// What it says.
    pub spec: DefinitionSpec,
    /// When the first version was made.
    pub created_at: Timestamp,
    /// When this version was made.
    pub updated_at: Timestamp,
}
