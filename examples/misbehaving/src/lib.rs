//! Everything that a module should not do, a definition for each: `tower run example:misbehaving/loop`. The definition `misbehaving`
//! does all of it side by side and tells how each ended.
//!
//! - [`exhaust`]: time, memory, stack, the log; [`intrude`]: what is outside; [`lie`]: text and results that are not what they seem;
//!   [`multiply`]: children

mod exhaust;
mod intrude;
mod lie;
mod multiply;

use command_tower::prelude::*;
use serde::Deserialize;

/// What to do. The README says how each ends.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Case {
    /// All of the others, as children.
    Everything,
    Loop,
    Spin,
    Hang,
    Busy,
    Recurse,
    Grow,
    FloodLog,
    FloodProgress,
    Panic,
    Exit,
    HugeResult,
    Forge,
    Files,
    Environment,
    ForkBomb,
    Deep,
    Cycle,
}

#[derive(Clone, Debug, Deserialize)]
struct Params {
    case: Case,
    /// The definitions that [`Case::Everything`] is made of.
    #[serde(default)]
    cases: Vec<String>,
}

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Value> {
    match task.params.case {
        Case::Everything => multiply::everything(&task.params.cases),
        Case::Loop => exhaust::compute(),
        Case::Spin => exhaust::spin(),
        Case::Hang => exhaust::hang(),
        Case::Busy => exhaust::compute(),
        Case::Recurse => exhaust::recurse(),
        Case::Grow => exhaust::grow(),
        Case::FloodLog => exhaust::flood_log(),
        Case::FloodProgress => exhaust::flood_progress(),
        Case::Panic => panic!("this step gives up"),
        Case::Exit => std::process::exit(0),
        Case::HugeResult => lie::huge_result(),
        Case::Forge => lie::forge(),
        Case::Files => intrude::files(),
        Case::Environment => intrude::environment(),
        Case::ForkBomb => multiply::fork_bomb(&task.definition),
        Case::Deep => multiply::deep(&task.definition),
        Case::Cycle => multiply::cycle(&task.definition),
    }
}

/// How each child ended, by key.
#[command_tower::aggregate]
fn aggregate(_: Task<Params>, results: Results) -> Result<Value> {
    let mut ends = Vec::new();
    for result in results {
        let code = result.error.as_ref().map(|error| error.code.clone());
        ends.push((result.key, code.unwrap_or_else(|| format!("{:?}", result.status).to_uppercase()).into()));
    }
    Ok(Value::Object(ends.into_iter().collect()))
}
