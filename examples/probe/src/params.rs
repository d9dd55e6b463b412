//! What the probe can be told to do.

use command_tower::prelude::*;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

type Map = std::collections::BTreeMap<String, Value>;

/// `{"do": "<behaviour>", …}`, and under `fold` what the aggregate does, if there is something to fold.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    pub(crate) behaviour: Behaviour,
    pub(crate) fold: Fold,
}

/// By hand, because serde's own `tag` and `flatten` make the component a third larger.
impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let fold = fields.remove("fold").map_or_else(|| Ok(Fold::default()), Fold::deserialize).map_err(D::Error::custom)?;
        let Some(Value::String(name)) = fields.remove("do") else { return Err(D::Error::missing_field("do")) };
        let behaviour = json!({ name: fields });
        Ok(Self { behaviour: Behaviour::deserialize(behaviour).map_err(D::Error::custom)?, fold })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    /// Returns `value`.
    Echo {
        #[serde(default)]
        value: Value,
    },
    /// Returns all that the task can see of itself.
    Task {},
    /// Adds up `values` and the outputs of what the task depends on.
    Add {
        #[serde(default)]
        values: Vec<f64>,
    },
    /// Ends a LOOP after so many rounds.
    Last { rounds: u32 },
    /// Fails until the attempt `until`, and asks for a delay of `after_ms`.
    Retryable {
        #[serde(default = "for_ever")]
        until: u32,
        after_ms: Option<u64>,
    },
    /// Fails for good.
    Fatal {
        #[serde(default = "as_told_code")]
        code: String,
        #[serde(default = "as_told")]
        message: String,
    },
    /// Writes `lines` lines of `bytes` bytes to the task's log.
    Log {
        #[serde(default = "one")]
        lines: u64,
        #[serde(default)]
        bytes: usize,
        #[serde(default)]
        level: Level,
    },
    /// Reports progress `reports` times, with `pace_ms` between them.
    Progress {
        reports: usize,
        #[serde(default)]
        pace_ms: u64,
    },
    /// Shows each of `values` as a partial output.
    Partial { values: Vec<Value> },

    /// Splits into `n` children that are alike.
    Split(Recipe),
    /// Splits into children given one by one. With `catch`, a refusal is the output and not an error.
    Children {
        children: Vec<ChildSpec>,
        #[serde(default)]
        catch: bool,
    },
    /// Splits into `width` children that do the same with a `depth` one less; at depth 0 does `leaf`, by default an echo of 1.
    Tree(Tree),

    /// Waits inside the sandbox, by WASI's clock. Unless it obeys, a cancel is not asked for.
    Sleep {
        ms: u64,
        #[serde(default = "yes")]
        obey: bool,
    },
    /// Waits by `control.sleep`. Unless it obeys, what ended the nap is the output, a cancel too.
    NapInHost {
        ms: u64,
        #[serde(default = "yes")]
        obey: bool,
    },
    /// Computes for so long. Unless it obeys, a cancel is not asked for.
    Spin {
        ms: u64,
        #[serde(default = "yes")]
        obey: bool,
    },
    /// Does `units` units of work with a nap after each; when paused, leaves how far it came and goes on from there later.
    Pausable {
        units: u64,
        #[serde(default)]
        pace_ms: u64,
    },
    /// Returns what `check-cancel` says.
    Signal {},

    /// Computes for ever; with `ask`, calls `check-cancel` all the time and does not care.
    Loop {
        #[serde(default)]
        ask: bool,
    },
    /// Calls itself for ever.
    Recurse {},
    /// Takes memory until there is none. With `catch` it then returns how much there was, else it is the allocator that ends it.
    Grow {
        #[serde(default)]
        catch: bool,
    },
    /// Panics.
    Panic {
        #[serde(default = "as_told")]
        message: String,
    },
    /// Leaves by WASI's `exit`.
    Exit {
        #[serde(default)]
        code: i32,
    },
    /// Returns a text of which the JSON has exactly so many bytes (at least 2).
    BigOutput { bytes: usize },

    /// Returns the environment and the arguments.
    Env {},
    /// Returns two random numbers.
    Random {},
    /// Returns both clocks.
    Clock {},
    /// Writes to standard output and error.
    Print {
        #[serde(default)]
        stdout: String,
        #[serde(default)]
        stderr: String,
    },
    /// Reads a file. What does not work with files is an output, not an error.
    Read { path: String },
    /// Lists a folder.
    List { path: String },
    /// Writes a file.
    Write {
        path: String,
        #[serde(default)]
        text: String,
    },
    /// Writes a file of so many bytes, and then waits.
    Fill {
        path: String,
        bytes: u64,
        #[serde(default)]
        ms: u64,
    },
    /// Removes a file.
    Remove { path: String },
    /// Reads standard input to its end.
    Stdin {},
}

/// Children that are alike.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Recipe {
    pub(crate) n: u64,
    #[serde(default = "execution")]
    pub(crate) definition: String,
    /// Params of each; by default an echo of 1.
    #[serde(default = "echo_one")]
    pub(crate) params: Value,
    /// Each depends on the one before.
    #[serde(default)]
    pub(crate) chain: bool,
    /// The definition of one more child, which folds the others.
    pub(crate) group: Option<String>,
    #[serde(default = "nothing")]
    pub(crate) group_params: Value,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ChildSpec {
    pub(crate) key: String,
    #[serde(default = "execution")]
    pub(crate) definition: String,
    #[serde(default = "nothing")]
    pub(crate) params: Value,
    #[serde(default)]
    pub(crate) after: Vec<String>,
    /// Run once what it depends on has ended, in whatever way.
    #[serde(default)]
    pub(crate) finished: bool,
    pub(crate) priority: Option<u8>,
    pub(crate) timeout_sec: Option<u64>,
    pub(crate) max_retries: Option<u32>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Tree {
    pub(crate) width: u64,
    pub(crate) depth: u64,
    #[serde(default = "echo_one")]
    pub(crate) leaf: Value,
    /// The definition that does the leaves; without one, the tree's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaf_definition: Option<String>,
}

/// What the aggregate does: by default, returns `{"count", "ok", "sum"}`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Fold {
    /// Also the outputs by key, as `outputs`, and the codes of errors, as `errors`.
    #[serde(default)]
    pub(crate) outputs: bool,
    /// Fails with this code instead.
    pub(crate) fail: Option<String>,
    /// The failure may pass.
    #[serde(default)]
    pub(crate) retryable: bool,
    /// Splits by the same recipe again until so many phases are over.
    pub(crate) phases: Option<u64>,
    /// Naps for so long after each result.
    #[serde(default)]
    pub(crate) pace_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

fn for_ever() -> u32 {
    u32::MAX
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

fn as_told_code() -> String {
    "AS_TOLD".to_owned()
}

fn as_told() -> String {
    "the probe does as it is told".to_owned()
}

fn execution() -> String {
    "probe-exec".to_owned()
}

fn echo_one() -> Value {
    json!({ "do": "echo", "value": 1 })
}

fn nothing() -> Value {
    json!({})
}
