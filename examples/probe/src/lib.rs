//! A component that behaves as it is told, for tests and for trying the sandbox: `{"do": "<behaviour>", …}`.
//!
//! - [`params`]: the behaviours and what they take; the README lists them;
//! - [`splitting`]: children, chains, trees; [`fold`]: what the aggregate does with their results;
//! - [`waiting`]: time, cancel, pause; [`limits`]: everything that a sandbox must survive; [`sandbox`] and [`files`]: what can be
//!   seen from inside.

mod files;
mod fold;
mod limits;
mod params;
mod sandbox;
mod splitting;
mod waiting;

use std::time::Duration;

use command_tower::prelude::*;
use params::{Behaviour, Params};

#[command_tower::step]
fn run(task: Task<Params>) -> Result<Outcome<Value>> {
    let output = match &task.params.behaviour {
        Behaviour::Echo { value } => value.clone(),
        Behaviour::Task {} => describe(&task),
        Behaviour::Add { values } => fold::add(values, task.upstreams())?,
        Behaviour::Last { rounds } => return Ok(round(&task, *rounds)),
        Behaviour::Retryable { until, after_ms } => until_attempt(&task, *until, *after_ms)?,
        Behaviour::Fatal { code, message } => return Err(Error::fatal(code, message)),
        Behaviour::Log { lines, bytes, level } => write_log(*lines, *bytes, (*level).into()),
        Behaviour::Progress { reports, pace_ms } => waiting::report(*reports, *pace_ms)?,
        Behaviour::Partial { values } => partial(values)?,

        Behaviour::Split(recipe) => splitting::split_recipe(recipe, 1)?,
        Behaviour::Children { children, catch } => splitting::split_given(children, *catch)?,
        Behaviour::Tree(tree) => splitting::grow_tree(&task, tree)?,

        Behaviour::Sleep { ms, obey } => waiting::sleep_inside(*ms, *obey)?,
        Behaviour::NapInHost { ms, obey } => waiting::nap_in_host(*ms, *obey)?,
        Behaviour::Spin { ms, obey } => waiting::spin(*ms, *obey)?,
        Behaviour::Pausable { units, pace_ms } => return waiting::pausable(&task, *units, *pace_ms),
        Behaviour::Signal {} => waiting::describe(&signal()),

        Behaviour::Loop { ask } => limits::run_for_ever(*ask),
        Behaviour::Recurse {} => limits::recurse_for_ever(),
        Behaviour::Grow { catch } => limits::grow(*catch),
        Behaviour::Panic { message } => panic!("{message}"),
        Behaviour::Exit { code } => std::process::exit(*code),
        Behaviour::BigOutput { bytes } => limits::big_output(*bytes),

        Behaviour::Env {} => sandbox::environment(),
        Behaviour::Random {} => sandbox::random(),
        Behaviour::Clock {} => sandbox::clock(),
        Behaviour::Print { stdout, stderr } => sandbox::print(stdout, stderr)?,
        Behaviour::Read { path } => files::tried(files::read(path)),
        Behaviour::List { path } => files::tried(files::list(path)),
        Behaviour::Write { path, text } => files::tried(files::write(path, text)),
        Behaviour::Fill { path, bytes, ms } => {
            let filled = files::tried(files::fill(path, *bytes));
            sleep(Duration::from_millis(*ms))?;
            filled
        }
        Behaviour::Remove { path } => files::tried(files::remove(path)),
        Behaviour::Stdin {} => sandbox::stdin()?,
    };
    Ok(Outcome::done(output))
}

#[command_tower::aggregate]
fn aggregate(task: Task<Params>, results: Results) -> Result<Value> {
    fold::fold(&task, results)
}

/// What a task can see of itself.
fn describe(task: &Task<Params>) -> Value {
    let upstream: Vec<Value> = task
        .upstreams()
        .iter()
        .map(|result| json!({ "key": result.key, "status": format!("{:?}", result.status), "output": result.output::<Value>().ok() }))
        .collect();
    json!({
        "id": task.id,
        "trace_id": task.trace_id,
        "definition": task.definition,
        "key": task.key,
        "actor": format!("{:?}", task.actor),
        "role": task.role,
        "attempt": task.attempt,
        "retries_left": task.retries_left,
        "round_index": task.round_index,
        "layer": task.layer,
        "depth": task.depth,
        "may_split": task.may_split,
        "deadline_ms": task.deadline_ms,
        "idempotency_key": task.idempotency_key,
        "upstream": upstream,
        "carried": task.carried::<Value>().ok().flatten(),
    })
}

fn round(task: &Task<Params>, rounds: u32) -> Outcome<Value> {
    let output = json!({ "round": task.round_index });
    if task.round_index + 1 >= rounds { Outcome::last(output) } else { Outcome::done(output) }
}

fn until_attempt(task: &Task<Params>, until: u32, after_ms: Option<u64>) -> Result<Value> {
    if task.attempt >= until {
        return Ok(json!({ "attempt": task.attempt }));
    }
    let error = Error::retryable("NOT_YET", format!("attempt {} of {until}", task.attempt));
    Err(match after_ms {
        Some(after_ms) => error.after(Duration::from_millis(after_ms)),
        None => error,
    })
}

fn write_log(lines: u64, bytes: usize, level: log::Level) -> Value {
    for number in 1..=lines {
        let text = format!("line {number} ");
        let padding = "x".repeat(bytes.saturating_sub(text.len()));
        log::write(level, text + &padding, Some(&json!({ "number": number })));
    }
    json!({ "lines": lines })
}

fn partial(values: &[Value]) -> Result<Value> {
    for value in values {
        report::partial_output(value)?;
    }
    Ok(json!({ "values": values.len() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use command_tower::testing::{self, Tower};

    fn task(params: Value) -> Task<Params> {
        testing::task(serde::Deserialize::deserialize(params).expect("the params should fit"))
    }

    fn done(params: Value) -> Value {
        match run(task(params)) {
            Ok(Outcome::Done(value)) => value,
            other => panic!("not done: {other:?}"),
        }
    }

    #[test]
    fn an_echo_returns_its_value() {
        assert_eq!(done(json!({ "do": "echo", "value": [1, "two"] })), json!([1, "two"]));
        assert_eq!(done(json!({ "do": "echo" })), Value::Null);
    }

    #[test]
    fn a_retryable_one_succeeds_at_its_attempt() {
        let params = json!({ "do": "retryable", "until": 2, "after_ms": 250 });
        let error = run(task(params.clone())).expect_err("the first attempt fails");
        assert_eq!((error.code(), error.retry_after()), ("NOT_YET", Some(Duration::from_millis(250))));
        let mut second = task(params);
        second.attempt = 2;
        assert!(matches!(run(second), Ok(Outcome::Done(value)) if value == json!({ "attempt": 2 })));
    }

    #[test]
    fn the_last_round_says_so() {
        let mut task = task(json!({ "do": "last", "rounds": 2 }));
        assert!(matches!(run(task.clone()), Ok(Outcome::Done(_))));
        task.round_index = 1;
        assert!(matches!(run(task), Ok(Outcome::Last(_))));
    }

    #[test]
    fn log_lines_have_the_size_that_was_asked_for() {
        let tower = Tower::new();
        done(json!({ "do": "log", "lines": 2, "bytes": 100, "level": "warn" }));
        let log = tower.log();
        assert_eq!(log.iter().map(|line| line.message.len()).collect::<Vec<_>>(), [100, 100]);
        assert_eq!(log[0].level, log::Level::Warn);
    }

    #[test]
    fn an_unknown_behaviour_is_refused() {
        assert!(<Params as serde::Deserialize>::deserialize(json!({ "do": "fly" })).is_err());
    }
}
