//! How a component's run ended → how the step ended. The codes are explained in `tower_domain::codes`.

use std::collections::BTreeSet;

use tower_domain::codes;
use tower_domain::definition::bounds::JSON_BYTES_MAX;
use tower_domain::json::{BadJson, Json};
use tower_domain::step::{FailureClass, HostTrouble, Signal, Step, StepEnd, StepFailure, Stop};
use tower_domain::task::TaskError;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::bindings::types::{Outcome, StepError};
use super::convert;
use super::guest_state::{Cut, GuestState};
use super::host_functions::Refused;
use super::stdio::Stdio;

/// How far a run had come when it broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Making the instance, which runs the start functions of its modules.
    Begin,
    /// Calling its export.
    Call,
}

/// A run that did not return.
pub(super) struct Broken {
    pub(super) stage: Stage,
    pub(super) error: wasmtime::Error,
}

pub(super) type Answer = Result<Outcome, StepError>;

/// The guest returned: what it said is checked, then believed.
pub(super) fn answered(answer: Answer, state: &GuestState) -> StepEnd {
    match answer {
        Ok(Outcome::Done(text)) => finished(&text, false),
        Ok(Outcome::Last(text)) => finished(&text, true),
        Ok(Outcome::Paused(text)) => paused(&text, state),
        Err(StepError::Retryable(retry)) => StepEnd::Failed(StepFailure {
            class: FailureClass::Retryable,
            error: TaskError::new(&retry.fault.code, &retry.fault.message),
            after: convert::after(retry.after_ms),
        }),
        Err(StepError::Fatal(fault)) => fatal(&fault.code, fault.message),
        Err(StepError::Cancelled) => {
            if state.told.cancel || matches!(state.home.host.signal(), Signal::Cancel(_)) {
                StepEnd::Cancelled
            } else {
                fatal(codes::GUEST_CANCELLED_ITSELF.name, "the step returned `cancelled`, and nobody had cancelled it; to give up, return a fatal error")
            }
        }
    }
}

fn finished(text: &str, last: bool) -> StepEnd {
    match output(text) {
        Ok(output) => StepEnd::Finished { output, last },
        Err(end) => end,
    }
}

fn paused(text: &str, state: &GuestState) -> StepEnd {
    if !state.told.pause && state.home.host.signal() != Signal::Pause {
        return fatal(codes::NOT_PAUSED.name, "the step returned `paused`, and nobody had paused it; to try again later, return a retryable error");
    }
    match output(text) {
        Ok(carried) => StepEnd::Paused { carried },
        Err(end) => end,
    }
}

/// What a step leaves, checked and within the bound for outputs.
pub(super) fn output(text: &str) -> Result<Json, StepEnd> {
    Json::parse(text, JSON_BYTES_MAX).map_err(|error| match error {
        BadJson::TooLong { bytes, .. } => too_large(&format!("{bytes} bytes")),
        BadJson::Invalid(why) => bad_result(&format!("what the step returned is not JSON as the contract has it: {why}")),
    })
}

/// The guest was stopped from outside.
pub(super) fn cut(cut: Cut, step: &Step) -> StepEnd {
    let profile = &step.definition.spec.resource_profile;
    match cut {
        Cut::TimedOut => {
            retryable(codes::GUEST_TIMEOUT.name, format!("stopped after {:?}, its timeout; raise timeout_sec, or do less in one step", step.timeout))
        }
        Cut::CpuSpent => fatal(
            codes::GUEST_CPU_LIMIT.name,
            format!("stopped after {} ms on the processor; raise resource_profile.cpu_ms, or do less in one step", profile.cpu_ms),
        ),
        Cut::Stopped(Stop::Cancelled) => StepEnd::Cancelled,
        Cut::Stopped(Stop::Released) => StepEnd::Released,
    }
}

/// The guest broke off.
pub(super) fn broke(broken: &Broken, state: &GuestState, stdio: &Stdio, step: &Step) -> StepEnd {
    let Broken { stage, error } = broken;
    if let Some(reason) = state.cut {
        return cut(reason, step);
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return fatal(refused.code, &refused.message);
    }
    if let Some(trouble) = error.downcast_ref::<HostTrouble>() {
        return host_trouble(trouble);
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        // Slots are counted before a run begins, so that this does not happen; should it, it is not the task's fault.
        tracing::error!(%error, "the sandbox has no slot left, against its own count");
        return StepEnd::Released;
    }
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return retryable(codes::GUEST_NO_RESULT.name, with_stderr(&format!("the program exited with {code} instead of returning a result"), stdio));
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return fatal(codes::GUEST_QUOTA.name, "more than 1000 streams, files and other handles open at once");
    }
    // Wasmtime notes the guest's frames on whatever goes wrong while the guest runs. Without them, it was what the guest returned.
    let in_guest = error.downcast_ref::<WasmBacktrace>().is_some();
    let text = error.root_cause().to_string();
    // Wasmtime keeps this error's type to itself.
    if text.contains("fuel allocated for hostcalls") {
        return if in_guest {
            fatal(codes::GUEST_QUOTA.name, "one call handed the host too much at once; split in several calls")
        } else {
            too_large("many times the bound")
        };
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::StackOverflow) || trap == Some(&Trap::MemoryOutOfBounds) && recurses(error) {
        return fatal(codes::GUEST_STACK_OVERFLOW.name, with_stderr("the stack is exhausted: the code recurses too deeply", stdio));
    }
    if state.memory.was_hit() {
        let max = state.memory.bytes_max();
        let text =
            format!("all memories and tables of the step together would be more than {max} bytes; raise resource_profile.memory_bytes, or hold less ({text})");
        return fatal(codes::GUEST_MEMORY_LIMIT.name, with_stderr(&text, stdio));
    }
    match stage {
        Stage::Call if !in_guest => bad_result(&format!("what the step returned, or the memory that it set aside for its task, cannot be read: {text}")),
        Stage::Begin if !in_guest => fatal(codes::MODULE_INVALID.name, format!("the component cannot be started: {text}")),
        Stage::Begin | Stage::Call => retryable(codes::GUEST_TRAP.name, with_stderr(&text, stdio)),
    }
}

/// Compiled languages keep a stack of their own at the bottom of their memory: when it is used up, the trap is an access out of
/// bounds. What gives it away is that the innermost frames are all of a few functions.
fn recurses(error: &wasmtime::Error) -> bool {
    /// As many frames as Wasmtime notes.
    const FRAMES_MIN: usize = 20;
    const FUNCTIONS_MAX: usize = 4;
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return false };
    let functions: BTreeSet<u32> = backtrace.frames().iter().map(|frame| frame.func_index()).collect();
    backtrace.frames().len() >= FRAMES_MIN && functions.len() <= FUNCTIONS_MAX
}

/// The host could not answer: the step's retry is spent, the task is not lost.
pub(super) fn host_trouble(trouble: &HostTrouble) -> StepEnd {
    retryable(codes::HOST_TROUBLE.name, trouble.to_string())
}

pub(super) fn fatal(code: &str, message: impl AsRef<str>) -> StepEnd {
    StepEnd::Failed(StepFailure::fatal(code, message))
}

pub(super) fn retryable(code: &str, message: impl AsRef<str>) -> StepEnd {
    StepEnd::Failed(StepFailure::retryable(code, message))
}

fn bad_result(message: &str) -> StepEnd {
    fatal(codes::GUEST_BAD_RESULT.name, message)
}

pub(super) fn too_large(how_large: &str) -> StepEnd {
    fatal(codes::GUEST_RESULT_TOO_LARGE.name, format!("the result is too large: {how_large}, and {JSON_BYTES_MAX} bytes is the most"))
}

fn with_stderr(message: &str, stdio: &Stdio) -> String {
    let last = stdio.last_of_stderr();
    let lines = telling(&last);
    if lines.is_empty() { message.to_owned() } else { format!("{message}\n{}", lines.join("\n")) }
}

/// Of the last lines of standard error, those about the end: a panic or a traceback to its end. Where there is none, all of them: whatever
/// the program said last may be why. What a guest had printed before is in its log.
fn telling(last: &str) -> Vec<&str> {
    let is_note = |line: &&str| line.starts_with("note: run with `RUST_BACKTRACE");
    let lines: Vec<&str> = last.lines().filter(|line| !is_note(line)).collect();
    let begins = |line: &&str| (line.starts_with("thread '") && line.contains("panicked at")) || line.starts_with("Traceback (most recent call last)");
    let from = lines.iter().rposition(begins).unwrap_or(0);
    lines[from..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::telling;

    #[test]
    fn of_standard_error_only_what_is_about_the_end_is_quoted() {
        let panic = "reading page 1\nreading page 2\nthread 'main' (1) panicked at src/lib.rs:10:5:\nno data\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        assert_eq!(telling(panic), ["thread 'main' (1) panicked at src/lib.rs:10:5:", "no data"]);
        let python = "warming up\nTraceback (most recent call last):\n  File \"app.py\", line 3, in run\nValueError: no data";
        assert_eq!(telling(python)[0], "Traceback (most recent call last):");
        assert_eq!(telling(python).len(), 3);
        assert_eq!(telling("first\nlast"), ["first", "last"], "what is not recognised is quoted whole");
        assert!(telling("").is_empty());
    }
}
