//! Children: too many, too deep, in circles; and one of each kind.

use command_tower::prelude::*;

/// Twice the default bound.
const TOO_MANY: u32 = 20_000;

/// A child for each definition.
pub(crate) fn everything(cases: &[String]) -> Result<Value> {
    split(cases.iter().map(|case| Child::new(case, case)))?;
    Ok(Value::Null)
}

/// Splits into more than it may. All or nothing: nothing is registered.
pub(crate) fn fork_bomb(definition: &str) -> Result<Value> {
    split((0..TOO_MANY).map(|n| Child::new(format!("c{n}"), definition)))?;
    Ok(Value::Null)
}

/// Each child splits into two of its own kind, until the host says no.
pub(crate) fn deep(definition: &str) -> Result<Value> {
    split([Child::new("left", definition), Child::new("right", definition)])?;
    Ok(Value::Null)
}

/// Three children, each of which waits for the next.
pub(crate) fn cycle(definition: &str) -> Result<Value> {
    split([Child::new("a", definition).after(["b"]), Child::new("b", definition).after(["c"]), Child::new("c", definition).after(["a"])])?;
    Ok(Value::Null)
}
