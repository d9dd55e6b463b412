//! A guest's wish for children → a checked plan, or a refusal of the whole call.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::definition::{Definition, bounds};
use crate::id::{IdSource, TaskId};
use crate::json::Json;
use crate::name::{Key, Name};
use crate::task::{ActorType, RunOn};
use crate::word_enum;

/// One child as the guest asked for it: nothing is checked yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChildRequest {
    /// Its name among its siblings.
    pub key: String,
    /// The definition to run.
    pub definition: String,
    /// JSON text, laid over the definition's defaults.
    pub params: String,
    /// Keys of siblings.
    pub depends_on: Vec<String>,
    /// What those must have come to.
    pub run_on: Option<RunOn>,
    /// Instead of the definition's.
    pub actor_type: Option<ActorType>,
    /// Instead of the definition's.
    pub priority: Option<u8>,
    /// Instead of the definition's.
    pub timeout_sec: Option<u32>,
    /// Instead of the definition's.
    pub max_retries: Option<u32>,
}

word_enum! {
    /// Why a split was refused.
    pub enum SplitRefusal {
        /// The task may not split.
        NotAllowed = "NOT_ALLOWED",
        /// More children than `max_children`.
        TooManyChildren = "TOO_MANY_CHILDREN",
        /// More tasks than a trace may hold.
        TraceTooLarge = "TRACE_TOO_LARGE",
        /// Malformed or out of bounds.
        InvalidChild = "INVALID_CHILD",
        /// The key is taken by a child with other content.
        DuplicateKey = "DUPLICATE_KEY",
        /// No sibling has that key.
        UnknownDependency = "UNKNOWN_DEPENDENCY",
        /// A child would wait for itself.
        Cycle = "CYCLE",
        /// No such definition, or it is not active.
        UnknownDefinition = "UNKNOWN_DEFINITION",
    }
}

/// A refusal: nothing of the call was registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("split refused, {reason}: {message}")]
pub struct SplitRefused {
    /// Why.
    pub reason: SplitRefusal,
    /// Which child, if one.
    pub key: Option<String>,
    /// For people.
    pub message: String,
}

fn refuse(reason: SplitRefusal, key: Option<&str>, message: impl Into<String>) -> SplitRefused {
    SplitRefused { reason, key: key.map(|key| key.chars().take(64).collect()), message: message.into() }
}

/// A child that passed every check.
#[derive(Debug, Clone)]
pub struct PlannedChild {
    /// Its id.
    pub id: TaskId,
    /// Its name among its siblings.
    pub key: Key,
    /// What it runs.
    pub definition: Arc<Definition>,
    /// Its params, laid over the definition's.
    pub params: Json,
    /// Siblings that it named.
    pub depends_on: Vec<Key>,
    /// Whether it depends on all siblings that are no aggregators.
    pub on_all_siblings: bool,
    /// What those must have come to.
    pub run_on: RunOn,
    /// The part that it plays.
    pub actor_type: ActorType,
    /// 1–10.
    pub priority: u8,
    /// Wall time of an attempt.
    pub timeout_sec: u32,
    /// Retries after the first attempt.
    pub max_retries: u32,
    /// Agents above it.
    pub layer: u32,
    /// Tasks above it.
    pub depth: u32,
    /// Whether it is an agent that may not split.
    pub is_leaf_agent: bool,
}

/// A child that an earlier step of the same task split off.
#[derive(Debug, Clone)]
pub struct ExistingChild {
    /// Its id.
    pub id: TaskId,
    /// Its name among its siblings.
    pub key: Key,
    /// What it runs.
    pub definition: Name,
    /// Its params.
    pub params: Json,
}

/// Who splits.
#[derive(Debug, Clone, Copy)]
pub struct Splitter {
    /// The part that it plays.
    pub actor_type: ActorType,
    /// Agents above it.
    pub layer: u32,
    /// Tasks above it.
    pub depth: u32,
    /// Its definition's bound.
    pub max_layers: u32,
    /// Its definition's bound.
    pub max_children: u32,
    /// Tasks that the trace may still get.
    pub trace_room: u64,
}

impl Splitter {
    /// Whether a split can succeed at all.
    pub fn may_split(&self) -> bool {
        self.actor_type == ActorType::Agent && self.layer < self.max_layers && self.max_children > 0
    }
}

/// What a step has staged so far, with what earlier steps of the task split off.
#[derive(Debug, Default)]
pub struct Staging {
    existing: HashMap<Key, ExistingChild>,
    staged: HashMap<Key, usize>,
    plan: Vec<PlannedChild>,
    /// Staged children that wait for an aggregator of all siblings, or are one.
    behind_group: HashSet<Key>,
    /// Children that are no aggregators, aggregators of all those, and dependencies that were named.
    workers: usize,
    groups: usize,
    named: usize,
}

/// Dependencies among the children of one task: an aggregator of all its siblings counts one for each.
pub const DEPENDENCIES_MAX: usize = 1_000_000;

/// Answers a name with the definition that a new child runs, and checks params against its schema.
pub trait Definitions {
    /// The version that holds for this trace; none: unknown or not active.
    fn find(&self, name: &Name) -> Option<Arc<Definition>>;

    /// Whether params fit the definition's schema; else what is wrong with them.
    fn check_params(&self, definition: &Definition, params: &Json) -> Result<(), String>;
}

impl Staging {
    /// Beside children of earlier steps.
    pub fn beside(existing: Vec<ExistingChild>) -> Self {
        Self { workers: existing.len(), existing: existing.into_iter().map(|child| (child.key.clone(), child)).collect(), ..Self::default() }
    }

    /// Children staged so far.
    pub fn planned(&self) -> &[PlannedChild] {
        &self.plan
    }

    /// The children that the step's end brings about.
    pub fn into_plan(self) -> Vec<PlannedChild> {
        self.plan
    }

    /// Checks a call as a whole and stages it; or refuses it as a whole.
    pub fn split(
        &mut self,
        splitter: &Splitter,
        requests: &[ChildRequest],
        definitions: &dyn Definitions,
        ids: &dyn IdSource,
    ) -> Result<Vec<TaskId>, SplitRefused> {
        if !splitter.may_split() {
            return Err(refuse(SplitRefusal::NotAllowed, None, why_not(splitter)));
        }
        let mut fresh: Vec<PlannedChild> = Vec::with_capacity(requests.len());
        let mut fresh_keys: HashMap<Key, usize> = HashMap::with_capacity(requests.len());
        let mut answer = Vec::with_capacity(requests.len());
        let known = self.existing.len() + self.plan.len();
        for request in requests {
            let child = plan_child(splitter, request, definitions, ids)?;
            let twin = fresh_keys.get(&child.key).map(|at| &fresh[*at]).or_else(|| self.staged.get(&child.key).map(|at| &self.plan[*at]));
            if let Some(twin) = twin {
                answer.push(same_or_refuse(
                    &child,
                    twin.id,
                    twin.definition.id == child.definition.id && twin.params == child.params && twin.depends_on == child.depends_on,
                )?);
            } else if let Some(twin) = self.existing.get(&child.key) {
                answer.push(same_or_refuse(&child, twin.id, twin.definition == child.definition.id && twin.params == child.params)?);
            } else {
                if known + fresh.len() >= splitter.max_children as usize {
                    let message = format!("more than max_children = {} of the definition; split in layers, or raise it", splitter.max_children);
                    return Err(refuse(SplitRefusal::TooManyChildren, Some(child.key.as_str()), message));
                }
                if (self.plan.len() + fresh.len()) as u64 >= splitter.trace_room {
                    return Err(refuse(SplitRefusal::TraceTooLarge, Some(child.key.as_str()), "the trace would hold more tasks than this tower allows"));
                }
                answer.push(child.id);
                fresh_keys.insert(child.key.clone(), fresh.len());
                fresh.push(child);
            }
        }
        for child in &fresh {
            for key in &child.depends_on {
                if key == &child.key {
                    return Err(refuse(SplitRefusal::Cycle, Some(child.key.as_str()), "the child depends on itself"));
                }
                if !(fresh_keys.contains_key(key) || self.staged.contains_key(key) || self.existing.contains_key(key)) {
                    return Err(refuse(SplitRefusal::UnknownDependency, Some(child.key.as_str()), format!("depends on `{key}`, and no sibling has that key")));
                }
            }
        }
        let order =
            in_order(&fresh, &fresh_keys).map_err(|key| refuse(SplitRefusal::Cycle, Some(key.as_str()), "the child waits for itself by way of others"))?;
        let mut behind_group: HashSet<&Key> = HashSet::new();
        for child in order.into_iter().map(|at| &fresh[at]) {
            let waits = |key: &Key| behind_group.contains(key) || self.behind_group.contains(key);
            if child.on_all_siblings || child.depends_on.iter().any(waits) {
                // An aggregator of all siblings waits for every one that is no aggregator.
                if !child.actor_type.is_aggregator() {
                    let message = "the child waits for an aggregator that waits for all its siblings, this one among them; name what the aggregator depends on";
                    return Err(refuse(SplitRefusal::Cycle, Some(child.key.as_str()), message));
                }
                behind_group.insert(&child.key);
            }
        }
        let count = |is: fn(&PlannedChild) -> bool| fresh.iter().filter(|child| is(child)).count();
        let workers = self.workers + count(|child| !child.actor_type.is_aggregator());
        let groups = self.groups + count(|child| child.on_all_siblings);
        let named = self.named + fresh.iter().map(|child| child.depends_on.len()).sum::<usize>();
        if workers.saturating_mul(groups).saturating_add(named) > DEPENDENCIES_MAX {
            let message = format!(
                "the children would have more than {DEPENDENCIES_MAX} dependencies among them, an aggregator of all its siblings counting one for each"
            );
            return Err(refuse(SplitRefusal::TooManyChildren, None, message));
        }
        self.behind_group.extend(behind_group.into_iter().cloned());
        (self.workers, self.groups, self.named) = (workers, groups, named);
        for child in fresh {
            self.staged.insert(child.key.clone(), self.plan.len());
            self.plan.push(child);
        }
        Ok(answer)
    }
}

fn why_not(splitter: &Splitter) -> String {
    if splitter.actor_type != ActorType::Agent {
        format!("only an AGENT may split, and this task is {} {}", if splitter.actor_type == ActorType::Execution { "an" } else { "a" }, splitter.actor_type)
    } else if splitter.max_children == 0 {
        "the definition's max_children is 0".to_owned()
    } else {
        format!("the task stands at layer {}, and the definition's max_layers is {}", splitter.layer, splitter.max_layers)
    }
}

fn same_or_refuse(child: &PlannedChild, twin: TaskId, same: bool) -> Result<TaskId, SplitRefused> {
    if same {
        Ok(twin)
    } else {
        Err(refuse(SplitRefusal::DuplicateKey, Some(child.key.as_str()), "the key is taken by a child with another definition, params or dependencies"))
    }
}

fn plan_child(splitter: &Splitter, request: &ChildRequest, definitions: &dyn Definitions, ids: &dyn IdSource) -> Result<PlannedChild, SplitRefused> {
    let invalid = |message: String| refuse(SplitRefusal::InvalidChild, Some(&request.key), message);
    let key = Key::new(&request.key).map_err(|error| invalid(error.to_string()))?;
    let unknown = |message: String| refuse(SplitRefusal::UnknownDefinition, Some(&request.key), message);
    let name = Name::new(&request.definition).map_err(|error| unknown(error.to_string()))?;
    let definition = definitions.find(&name).ok_or_else(|| unknown(format!("there is no active definition `{name}`")))?;
    let spec = &definition.spec;
    let params = Json::parse(&request.params, bounds::JSON_BYTES_MAX).map_err(|error| invalid(format!("params: {error}")))?;
    let params = spec.default_params.overlaid(&params);
    if params.as_str().len() > bounds::JSON_BYTES_MAX {
        return Err(invalid(format!("params with the definition's defaults are over {} bytes", bounds::JSON_BYTES_MAX)));
    }
    definitions.check_params(&definition, &params).map_err(|error| invalid(format!("params do not fit the schema of `{name}`: {error}")))?;
    let actor_type = request.actor_type.unwrap_or(spec.actor_type);
    let priority = request.priority.unwrap_or(spec.priority);
    if !bounds::PRIORITY.contains(&priority) {
        return Err(invalid(format!("priority {priority} is not 1 to 10")));
    }
    let timeout_sec = request.timeout_sec.unwrap_or(spec.timeout_sec);
    if !bounds::TIMEOUT_SEC.contains(&timeout_sec) {
        return Err(invalid(format!("timeout_sec {timeout_sec} is not 1 to 86400")));
    }
    let max_retries = request.max_retries.unwrap_or(spec.max_retries);
    if !bounds::MAX_RETRIES.contains(&max_retries) {
        return Err(invalid(format!("max_retries {max_retries} is not 0 to 100")));
    }
    let mut depends_on = Vec::with_capacity(request.depends_on.len());
    let mut seen = HashSet::with_capacity(request.depends_on.len());
    for text in &request.depends_on {
        let dependency = Key::new(text).map_err(|error| invalid(format!("depends_on: {error}")))?;
        if seen.insert(dependency.clone()) {
            depends_on.push(dependency);
        }
    }
    if actor_type == ActorType::SingleAgg && depends_on.len() != 1 {
        return Err(invalid(format!("a SINGLE_AGG depends on exactly one sibling, not {}", depends_on.len())));
    }
    let default_run_on = if actor_type.is_aggregator() { RunOn::Finished } else { RunOn::Success };
    let layer = splitter.layer + 1;
    Ok(PlannedChild {
        id: ids.task(),
        on_all_siblings: actor_type == ActorType::GroupAgg && depends_on.is_empty(),
        run_on: request.run_on.unwrap_or(default_run_on),
        is_leaf_agent: actor_type == ActorType::Agent && layer >= spec.max_layers,
        depth: splitter.depth + 1,
        key,
        definition,
        params,
        depends_on,
        actor_type,
        priority,
        timeout_sec,
        max_retries,
        layer,
    })
}

/// The new children with those that they depend on before them (Kahn's algorithm); or the key of one in a cycle. Older ones cannot
/// depend on new ones.
fn in_order<'a>(fresh: &'a [PlannedChild], index: &HashMap<Key, usize>) -> Result<Vec<usize>, &'a Key> {
    let mut open: Vec<usize> = vec![0; fresh.len()];
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); fresh.len()];
    for (at, child) in fresh.iter().enumerate() {
        for dependency in child.depends_on.iter().filter_map(|key| index.get(key)) {
            open[at] += 1;
            dependents[*dependency].push(at);
        }
    }
    let mut ready: VecDeque<usize> = (0..fresh.len()).filter(|at| open[*at] == 0).collect();
    let mut order = Vec::with_capacity(fresh.len());
    while let Some(at) = ready.pop_front() {
        order.push(at);
        for dependent in &dependents[at] {
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                ready.push_back(*dependent);
            }
        }
    }
    match open.iter().position(|count| *count > 0) {
        None => Ok(order),
        Some(at) => Err(&fresh[at].key),
    }
}

#[cfg(test)]
mod tests;
