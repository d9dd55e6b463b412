//! The contract's types and the domain's, one into the other.

use std::time::Duration;

use tower_domain::split::{ChildRequest, SplitRefusal, SplitRefused};
use tower_domain::step::{LogLevel, Signal, Step, Summary};
use tower_domain::task::{ActorType, Output, RunOn, Status, TaskResult};

use super::bindings::{aggregate, control, report, split, types};

pub(super) fn task(step: &Step, upstream: &[TaskResult]) -> types::Task {
    types::Task {
        id: step.task_id.to_string(),
        trace_id: step.trace_id.to_string(),
        definition: step.definition.id.as_str().to_owned(),
        key: step.key.as_str().to_owned(),
        actor: actor(step.actor_type),
        role: step.definition.spec.role.clone(),
        params: step.params.as_str().to_owned(),
        upstream: upstream.iter().map(task_result).collect(),
        carried: step.carried.as_ref().map(|carried| carried.as_str().to_owned()),
        attempt: step.attempt,
        retries_left: step.retries_left,
        round_index: step.round_index,
        layer: step.layer,
        depth: step.depth,
        may_split: step.may_split,
        deadline_ms: u64::try_from(step.deadline.as_millis()).unwrap_or(0),
        idempotency_key: step.idempotency_key(),
    }
}

pub(super) fn summary(summary: Summary) -> aggregate::Summary {
    let Summary { expected, succeeded, failed, cancelled, skipped } = summary;
    aggregate::Summary { expected, succeeded, failed, cancelled, skipped }
}

pub(super) fn task_result(result: &TaskResult) -> types::TaskResult {
    let (output, output_ref) = match &result.output {
        Some(Output::Inline(json)) => (Some(json.as_str().to_owned()), None),
        Some(Output::Ref(url)) => (None, Some(url.clone())),
        None => (None, None),
    };
    types::TaskResult {
        task_id: result.task_id.to_string(),
        key: result.key.as_str().to_owned(),
        status: match result.status {
            Status::Success => types::Status::Success,
            Status::Cancelled => types::Status::Cancelled,
            Status::Skipped => types::Status::Skipped,
            // Only tasks that have ended are read, so that the first two do not occur.
            Status::Pending | Status::Running | Status::Failed => types::Status::Failed,
        },
        output,
        output_ref,
        error: result.error.as_ref().map(|error| types::Fault { code: error.code.clone(), message: error.message.clone() }),
    }
}

pub(super) fn child(child: split::Child) -> ChildRequest {
    ChildRequest {
        key: child.key,
        definition: child.definition,
        params: child.params,
        depends_on: child.depends_on,
        run_on: child.run_on.map(|run_on| match run_on {
            split::RunOn::Success => RunOn::Success,
            split::RunOn::Finished => RunOn::Finished,
        }),
        actor_type: child.actor.map(|actor| match actor {
            types::ActorType::Agent => ActorType::Agent,
            types::ActorType::Execution => ActorType::Execution,
            types::ActorType::GroupAgg => ActorType::GroupAgg,
            types::ActorType::SingleAgg => ActorType::SingleAgg,
        }),
        priority: child.priority,
        timeout_sec: child.timeout_sec,
        max_retries: child.max_retries,
    }
}

pub(super) fn split_error(refused: SplitRefused) -> split::SplitError {
    split::SplitError {
        reason: match refused.reason {
            SplitRefusal::NotAllowed => split::Refusal::NotAllowed,
            SplitRefusal::TooManyChildren => split::Refusal::TooManyChildren,
            SplitRefusal::TraceTooLarge => split::Refusal::TraceTooLarge,
            SplitRefusal::InvalidChild => split::Refusal::InvalidChild,
            SplitRefusal::DuplicateKey => split::Refusal::DuplicateKey,
            SplitRefusal::UnknownDependency => split::Refusal::UnknownDependency,
            SplitRefusal::Cycle => split::Refusal::Cycle,
            SplitRefusal::UnknownDefinition => split::Refusal::UnknownDefinition,
        },
        key: refused.key,
        message: refused.message,
    }
}

pub(super) fn level(level: report::Level) -> LogLevel {
    match level {
        report::Level::Debug => LogLevel::Debug,
        report::Level::Info => LogLevel::Info,
        report::Level::Warn => LogLevel::Warn,
        report::Level::Error => LogLevel::Error,
    }
}

pub(super) fn signal(signal: Signal) -> control::Signal {
    match signal {
        Signal::GoOn => control::Signal::GoOn,
        Signal::Pause => control::Signal::Pause,
        Signal::Cancel(reason) => control::Signal::Cancel(reason.as_ref().to_owned()),
    }
}

/// How long a guest asks to wait before it is tried again.
pub(super) fn after(after_ms: Option<u64>) -> Option<Duration> {
    after_ms.map(Duration::from_millis)
}

fn actor(actor: ActorType) -> types::ActorType {
    match actor {
        ActorType::Agent => types::ActorType::Agent,
        ActorType::Execution => types::ActorType::Execution,
        ActorType::GroupAgg => types::ActorType::GroupAgg,
        ActorType::SingleAgg => types::ActorType::SingleAgg,
    }
}
