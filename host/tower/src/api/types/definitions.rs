//! Definitions in bodies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::code_ref::CodeRef;
use tower_domain::definition::{AggregationPolicy, Capabilities, Definition, DefinitionSpec, ResourceProfile};
use tower_domain::json::Json;
use tower_domain::limit::RateLimit;
use tower_domain::name::Name;
use tower_domain::retry::RetryPolicy;
use tower_domain::schedule::{self, LoopConfig};
use utoipa::ToSchema;

use super::{ActorType, ContainerBody, Firing, Misfire, Overlap, ScheduleState, ScheduleType, Window, WorkspaceAccess};
use crate::api::extract::{fields, optional_fields};

/// What a definition says.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DefinitionSpec)]
pub(crate) struct SpecBody {
    /// For people.
    #[serde(default)]
    pub(crate) name: String,
    /// Owner.
    #[serde(default)]
    pub(crate) user_id: String,
    /// A line or two for people.
    #[serde(default)]
    pub(crate) description: String,
    pub(crate) actor_type: ActorType,
    /// A free word that the code is told.
    #[serde(default)]
    pub(crate) role: String,
    /// Where its code is: `wasm://name[:tag]` or `wasm://sha256:…` (an uploaded component), `docker://image[:tag]` (a container),
    /// `worker://queue` (outside workers that fetch steps), or `http://…` and `https://…` (an outside worker that is called).
    #[schema(value_type = String, example = "wasm://survey:latest")]
    pub(crate) code_ref: CodeRef,
    /// Free words for people and filters.
    #[serde(default)]
    #[schema(max_items = 64)]
    pub(crate) strategy_tags: Vec<String>,
    /// Params that a trigger's are laid over.
    #[serde(default = "Json::empty_object")]
    #[schema(value_type = Object)]
    pub(crate) default_params: Json,
    /// JSON Schema (draft 2020-12) that params must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) params_schema: Option<Json>,
    /// Wall time of an attempt in seconds.
    #[serde(default = "timeout_sec")]
    #[schema(minimum = 1, maximum = 86400)]
    pub(crate) timeout_sec: u32,
    /// Retries after the first attempt.
    #[serde(default = "max_retries")]
    #[schema(maximum = 100)]
    pub(crate) max_retries: u32,
    #[serde(default, deserialize_with = "fields")]
    pub(crate) retry: RetryBody,
    /// 10 is the most urgent.
    #[serde(default = "priority")]
    #[schema(minimum = 1, maximum = 10)]
    pub(crate) priority: u8,
    /// How many layers of agents may split.
    #[serde(default = "max_layers")]
    #[schema(maximum = 1000)]
    pub(crate) max_layers: u32,
    /// Most children of one task.
    #[serde(default = "max_children")]
    #[schema(maximum = 1000000)]
    pub(crate) max_children: u32,
    #[serde(default, deserialize_with = "fields")]
    pub(crate) aggregation: AggregationBody,
    #[serde(default, deserialize_with = "fields")]
    pub(crate) capabilities: CapabilitiesBody,
    #[serde(default, deserialize_with = "fields")]
    pub(crate) resource_profile: ProfileBody,
    /// An inactive one can neither be triggered nor split to.
    #[serde(default = "yes")]
    pub(crate) is_active: bool,
    /// For filters.
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// ONCE: when it is triggered, or by itself at `run_at`. CRON: each firing is a new trace. LOOP: one trace, round after round.
    #[serde(default = "once")]
    pub(crate) schedule_type: ScheduleType,
    /// When a ONCE or LOOP runs by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) run_at: Option<Timestamp>,
    /// When a CRON fires: five fields, six with the second first, or `@daily` and its like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "30 8 * * MON-FRI")]
    pub(crate) cron_expr: Option<String>,
    /// The IANA name of the zone of `cron_expr`.
    #[serde(default = "utc")]
    #[schema(example = "Europe/Berlin")]
    pub(crate) timezone: String,
    /// Seconds between the firings of a CRON without `cron_expr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 31536000)]
    pub(crate) interval_sec: Option<u32>,
    #[serde(default, deserialize_with = "optional_fields", skip_serializing_if = "Option::is_none")]
    pub(crate) loop_config: Option<LoopBody>,
    #[serde(default = "immediate")]
    pub(crate) window: Window,
    #[serde(default = "fire_once")]
    pub(crate) misfire: Misfire,
    #[serde(default = "allow")]
    pub(crate) overlap: Overlap,
    /// The root of a firing runs up to so many seconds later; less than the time between two firings.
    #[serde(default)]
    #[schema(maximum = 3600)]
    pub(crate) jitter_sec: u32,
    /// A CRON does not fire before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) starts_at: Option<Timestamp>,
    /// A CRON does not fire from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ends_at: Option<Timestamp>,
    /// Tasks of it that run at once, over all traces and hosts; absent: as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000)]
    pub(crate) max_concurrent: Option<u32>,
    /// JSON Pointer (RFC 6901) into the params: tasks with the same value there share a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 256, example = "/company")]
    pub(crate) concurrency_key: Option<String>,
    /// Tasks with one value of the key that run at once; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000)]
    pub(crate) max_concurrent_per_key: Option<u32>,
    #[serde(default, deserialize_with = "optional_fields", skip_serializing_if = "Option::is_none")]
    pub(crate) rate_limit: Option<RateBody>,
    /// Whether code outside of the host folds the results of its children: it is then handed the leg `AGGREGATE`. Else their outputs by key
    /// are the task's. Components say it by what they export.
    #[serde(default)]
    pub(crate) folds: bool,
    #[serde(default, deserialize_with = "optional_fields", skip_serializing_if = "Option::is_none")]
    pub(crate) container: Option<ContainerBody>,
}

/// What an answer has and a request may repeat.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a part of bodies, which are read in two steps")]
pub(crate) struct KnownFields {
    /// Taken and not used: the tower knows it.
    #[schema(value_type = Option<Value>)]
    pub(crate) version: Option<Json>,
    /// Taken and not used: the tower knows it.
    #[schema(value_type = Option<Value>)]
    pub(crate) created_at: Option<Json>,
    /// Taken and not used: the tower knows it.
    #[schema(value_type = Option<Value>)]
    pub(crate) updated_at: Option<Json>,
    /// Taken and not used: the tower knows it.
    #[schema(value_type = Option<Value>)]
    pub(crate) schedule_status: Option<Json>,
    /// Taken and not used: the tower knows it.
    #[schema(value_type = Option<Value>)]
    pub(crate) next_at: Option<Json>,
    /// Taken and not used: the tower knows it.
    #[schema(value_type = Option<Value>)]
    pub(crate) next_firings: Option<Json>,
}

/// What a definition says, as it is put.
#[derive(Debug, ToSchema)]
#[schema(as = PutDefinition)]
#[expect(dead_code, reason = "describes the body, which is read in two steps")]
pub(crate) struct PutSpecBody {
    /// The same as the path's.
    #[schema(value_type = Option<String>)]
    pub(crate) id: Option<Name>,
    #[serde(flatten)]
    pub(crate) known: KnownFields,
    #[serde(flatten)]
    pub(crate) spec: SpecBody,
}

/// What a definition says, as it is created.
#[derive(Debug, ToSchema)]
#[schema(as = CreateDefinition)]
#[expect(dead_code, reason = "describes the body, which is read in two steps")]
pub(crate) struct CreateSpecBody {
    /// What it is to be called.
    #[schema(value_type = String, example = "financial-analysis", pattern = "^[a-z0-9][a-z0-9._-]{0,127}$")]
    pub(crate) id: Name,
    #[serde(flatten)]
    pub(crate) known: KnownFields,
    #[serde(flatten)]
    pub(crate) spec: SpecBody,
}

fn timeout_sec() -> u32 {
    300
}
fn max_retries() -> u32 {
    3
}
fn priority() -> u8 {
    5
}
fn max_layers() -> u32 {
    8
}
fn max_children() -> u32 {
    10_000
}
fn yes() -> bool {
    true
}
fn once() -> ScheduleType {
    schedule::ScheduleType::default().into()
}
fn utc() -> String {
    "UTC".to_owned()
}
fn immediate() -> Window {
    schedule::Window::default().into()
}
fn fire_once() -> Misfire {
    schedule::Misfire::default().into()
}
fn allow() -> Overlap {
    schedule::Overlap::default().into()
}

/// The rounds of a LOOP: at least one of the two must bound them.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LoopConfig)]
pub(crate) struct LoopBody {
    /// Most rounds; absent: until the code says stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub(crate) max_rounds: Option<u32>,
    /// Seconds from the end of a round to the next.
    #[serde(default)]
    #[schema(maximum = 31536000)]
    pub(crate) interval_sec: u32,
}

/// Tasks that begin in a while, over all traces and hosts: a bucket of `burst` tokens, refilled evenly with `max` in `per_sec` seconds.
/// Every start takes one: retries and aggregations too.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RateLimit)]
pub(crate) struct RateBody {
    /// Starts in a period.
    #[schema(minimum = 1, maximum = 1000000)]
    pub(crate) max: u32,
    /// Seconds of the period.
    #[schema(minimum = 1, maximum = 86400)]
    pub(crate) per_sec: u32,
    /// Starts at once after a while without any; `max` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000)]
    pub(crate) burst: Option<u32>,
}

impl From<RateLimit> for RateBody {
    fn from(RateLimit { max, per_sec, burst }: RateLimit) -> Self {
        Self { max, per_sec, burst }
    }
}

impl From<RateBody> for RateLimit {
    fn from(RateBody { max, per_sec, burst }: RateBody) -> Self {
        Self { max, per_sec, burst }
    }
}

/// How long to wait before retries: `initial_sec * factor^n`, at most `max_sec`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RetryPolicy)]
pub(crate) struct RetryBody {
    pub(crate) initial_sec: f64,
    pub(crate) factor: f64,
    pub(crate) max_sec: f64,
    /// Draw from zero to the bound.
    pub(crate) jitter: bool,
}

impl Default for RetryBody {
    fn default() -> Self {
        RetryPolicy::default().into()
    }
}

impl From<RetryPolicy> for RetryBody {
    fn from(RetryPolicy { initial_sec, factor, max_sec, jitter }: RetryPolicy) -> Self {
        Self { initial_sec, factor, max_sec, jitter }
    }
}

/// What becomes of a task whose children have ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(tag = "policy", rename_all = "SCREAMING_SNAKE_CASE", deny_unknown_fields)]
#[schema(as = Aggregation)]
pub(crate) enum AggregationBody {
    /// Any child that did not succeed fails the parent.
    // With braces, here and below, since serde lets a variant without fields have any.
    All {},
    /// `aggregate` runs when at least `min_success` children succeeded.
    Partial {
        #[serde(default = "one")]
        min_success: u32,
    },
    /// `aggregate` runs whatever became of the children.
    Always {},
}

fn one() -> u32 {
    1
}

impl Default for AggregationBody {
    fn default() -> Self {
        AggregationPolicy::default().into()
    }
}

impl From<AggregationPolicy> for AggregationBody {
    fn from(policy: AggregationPolicy) -> Self {
        match policy {
            AggregationPolicy::All => Self::All {},
            AggregationPolicy::Partial { min_success } => Self::Partial { min_success },
            AggregationPolicy::Always => Self::Always {},
        }
    }
}

impl From<AggregationBody> for AggregationPolicy {
    fn from(policy: AggregationBody) -> Self {
        match policy {
            AggregationBody::All {} => Self::All,
            AggregationBody::Partial { min_success } => Self::Partial { min_success },
            AggregationBody::Always {} => Self::Always,
        }
    }
}

/// What the code is granted; nothing else.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Capabilities)]
pub(crate) struct CapabilitiesBody {
    /// A folder that the operator declared under this name, shown read-only at `/workspace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) workspace: Option<Name>,
    /// The workspace of the trace's session, shown at `/workspace`; not together with `workspace`. In a trace without a session there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<WorkspaceAccess>,
}

/// What a step may use.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = ResourceProfile)]
pub(crate) struct ProfileBody {
    /// All memories and tables of a step together, in bytes.
    pub(crate) memory_bytes: u64,
    /// CPU time of an attempt, in milliseconds.
    pub(crate) cpu_ms: u64,
    /// Bytes of log lines kept of an attempt.
    pub(crate) log_bytes: u64,
}

impl Default for ProfileBody {
    fn default() -> Self {
        ResourceProfile::default().into()
    }
}

impl From<ResourceProfile> for ProfileBody {
    fn from(ResourceProfile { memory_bytes, cpu_ms, log_bytes }: ResourceProfile) -> Self {
        Self { memory_bytes, cpu_ms, log_bytes }
    }
}

impl From<SpecBody> for DefinitionSpec {
    fn from(spec: SpecBody) -> Self {
        let RetryBody { initial_sec, factor, max_sec, jitter } = spec.retry;
        let ProfileBody { memory_bytes, cpu_ms, log_bytes } = spec.resource_profile;
        Self {
            name: spec.name,
            user_id: spec.user_id,
            description: spec.description,
            actor_type: spec.actor_type.into(),
            role: spec.role,
            code_ref: spec.code_ref,
            strategy_tags: spec.strategy_tags,
            default_params: spec.default_params,
            params_schema: spec.params_schema,
            timeout_sec: spec.timeout_sec,
            max_retries: spec.max_retries,
            retry: RetryPolicy { initial_sec, factor, max_sec, jitter },
            priority: spec.priority,
            max_layers: spec.max_layers,
            max_children: spec.max_children,
            aggregation: spec.aggregation.into(),
            capabilities: Capabilities { workspace: spec.capabilities.workspace, session: spec.capabilities.session.map(Into::into) },
            resource_profile: ResourceProfile { memory_bytes, cpu_ms, log_bytes },
            is_active: spec.is_active,
            labels: spec.labels,
            schedule_type: spec.schedule_type.into(),
            run_at: spec.run_at,
            cron_expr: spec.cron_expr,
            timezone: spec.timezone,
            interval_sec: spec.interval_sec,
            loop_config: spec.loop_config.map(|LoopBody { max_rounds, interval_sec }| LoopConfig { max_rounds, interval_sec }),
            window: spec.window.into(),
            misfire: spec.misfire.into(),
            overlap: spec.overlap.into(),
            jitter_sec: spec.jitter_sec,
            starts_at: spec.starts_at,
            ends_at: spec.ends_at,
            max_concurrent: spec.max_concurrent,
            concurrency_key: spec.concurrency_key,
            max_concurrent_per_key: spec.max_concurrent_per_key,
            rate_limit: spec.rate_limit.map(Into::into),
            folds: spec.folds,
            container: spec.container.map(Into::into),
        }
    }
}

impl From<DefinitionSpec> for SpecBody {
    fn from(spec: DefinitionSpec) -> Self {
        Self {
            name: spec.name,
            user_id: spec.user_id,
            description: spec.description,
            actor_type: spec.actor_type.into(),
            role: spec.role,
            code_ref: spec.code_ref,
            strategy_tags: spec.strategy_tags,
            default_params: spec.default_params,
            params_schema: spec.params_schema,
            timeout_sec: spec.timeout_sec,
            max_retries: spec.max_retries,
            retry: spec.retry.into(),
            priority: spec.priority,
            max_layers: spec.max_layers,
            max_children: spec.max_children,
            aggregation: spec.aggregation.into(),
            capabilities: CapabilitiesBody { workspace: spec.capabilities.workspace, session: spec.capabilities.session.map(Into::into) },
            resource_profile: spec.resource_profile.into(),
            is_active: spec.is_active,
            labels: spec.labels,
            schedule_type: spec.schedule_type.into(),
            run_at: spec.run_at,
            cron_expr: spec.cron_expr,
            timezone: spec.timezone,
            interval_sec: spec.interval_sec,
            loop_config: spec.loop_config.map(|LoopConfig { max_rounds, interval_sec }| LoopBody { max_rounds, interval_sec }),
            window: spec.window.into(),
            misfire: spec.misfire.into(),
            overlap: spec.overlap.into(),
            jitter_sec: spec.jitter_sec,
            starts_at: spec.starts_at,
            ends_at: spec.ends_at,
            max_concurrent: spec.max_concurrent,
            concurrency_key: spec.concurrency_key,
            max_concurrent_per_key: spec.max_concurrent_per_key,
            rate_limit: spec.rate_limit.map(Into::into),
            folds: spec.folds,
            container: spec.container.map(Into::into),
        }
    }
}

/// One version of a definition: its id, its version, its times, and what it says.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Definition)]
pub(crate) struct DefinitionBody {
    #[schema(value_type = String)]
    pub(crate) id: Name,
    /// Counts the changes, from 1. The ETag.
    pub(crate) version: u32,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: Timestamp,
    /// Where its schedule stands; null: it has none.
    pub(crate) schedule_status: Option<ScheduleState>,
    /// When it fires next; null: not by itself, or not any more, or not while it is held.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_at: Option<Timestamp>,
    /// Its next firings, where they were asked for (`?next=`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next_firings: Option<Vec<Firing>>,
    #[serde(flatten)]
    pub(crate) spec: SpecBody,
}

impl From<Definition> for DefinitionBody {
    fn from(definition: Definition) -> Self {
        let Definition { id, version, spec, created_at, updated_at } = definition;
        Self { id, version, created_at, updated_at, schedule_status: None, next_at: None, next_firings: None, spec: spec.into() }
    }
}

impl DefinitionBody {
    /// With where its schedule stands.
    pub(crate) fn with(mut self, schedule: Option<schedule::Schedule>) -> Self {
        self.stand(schedule);
        self
    }

    /// Says where its schedule stands.
    pub(crate) fn stand(&mut self, schedule: Option<schedule::Schedule>) {
        self.schedule_status = schedule.as_ref().map(|schedule| schedule.state.into());
        self.next_at = schedule.and_then(|schedule| schedule.next_at);
    }
}
