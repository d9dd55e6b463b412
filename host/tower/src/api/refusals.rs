//! What the engine and the store refuse or fail at, as problems.

use tower_domain::id::{TaskId, TraceId};
use tower_domain::name::Name;
use tower_engine::orders::{DefinitionError, OrderError, ParamError, StoreFailure, TriggerError};
use tower_engine::schedules::ScheduleError;
use tower_store::StoreError;

use super::extract::field_problems;
use super::problem::{Problem, causes, codes};
use super::sessions::{no_such_session, session_closed};

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        store_failed(&error)
    }
}

impl From<StoreFailure> for Problem {
    fn from(failure: StoreFailure) -> Self {
        store_failed(&failure.0)
    }
}

/// A store that is away may be back soon; what it cannot digest is the host's fault.
fn store_failed(error: &StoreError) -> Problem {
    if !error.is_outage() {
        return Problem::internal(error);
    }
    tracing::error!(error = %causes(error), "a request failed: the store is away");
    Problem::new(&codes::UNAVAILABLE, "the database or the disk cannot be read or written now")
        .with_hint("send it again later, with the same Idempotency-Key if it has one; the host's log says what is wrong")
        .with_retry_after(5)
}

fn shutting_down() -> Problem {
    Problem::new(&codes::UNAVAILABLE, "the host is shutting down").with_retry_after(5)
}

fn params_invalid(errors: &[ParamError], prefix: &str) -> Problem {
    let errors = field_problems(errors.iter().map(|error| (error.pointer.as_str(), error.message.as_str())), prefix);
    let detail = errors.first().map_or_else(|| "the params do not fit".to_owned(), |first| format!("{}: {}", first.pointer, first.message));
    Problem::new(&codes::PARAMS_INVALID, detail).with_errors(errors)
}

impl From<TriggerError> for Problem {
    fn from(error: TriggerError) -> Self {
        let text = error.to_string();
        match error {
            TriggerError::UnknownDefinition(id) => no_such_definition(&id),
            TriggerError::Inactive(id) => Self::new(&codes::INACTIVE_DEFINITION, text)
                .with_hint(format!("GET /api/v1/definitions/{id}, set \"is_active\": true in what it answers, and PUT it back")),
            TriggerError::BadParams(errors) => params_invalid(&errors, "/params"),
            TriggerError::UnknownSession(id) => no_such_session(id),
            TriggerError::SessionClosed(id) => session_closed(id),
            TriggerError::BadField(field) => Self::field(&codes::BAD_FIELDS, field.pointer, field.message),
            TriggerError::KeyTaken { trace_id } => {
                Self::new(&codes::IDEMPOTENCY_KEY_REUSED, text).with_hint(format!("use a new key, or read what it began: GET /api/v1/traces/{trace_id}"))
            }
            TriggerError::ShuttingDown => shutting_down(),
            TriggerError::Store(failure) => failure.into(),
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let text = error.to_string();
        match error {
            OrderError::NotFound => Self::new(&codes::NO_SUCH_TASK, text),
            OrderError::NotEnded(trace) => {
                Self::new(&codes::NOT_ENDED, text).with_hint(format!("POST /api/v1/traces/{trace}/cancel, or GET /api/v1/traces/{trace}?wait=60s"))
            }
            OrderError::SessionClosed(_) => Self::new(&codes::SESSION_CLOSED, text),
            OrderError::KeyTaken { .. } => Self::new(&codes::IDEMPOTENCY_KEY_REUSED, text),
            OrderError::NotReached(_) => Self::new(&codes::CANNOT_RERUN_FROM, text),
            OrderError::BadParams(errors) => params_invalid(&errors, "/params"),
            OrderError::NothingToRetry(_) => Self::new(&codes::NOTHING_TO_RETRY, text),
            OrderError::ShuttingDown => shutting_down(),
            OrderError::Store(failure) => failure.into(),
        }
    }
}

impl From<ScheduleError> for Problem {
    fn from(error: ScheduleError) -> Self {
        let text = error.to_string();
        match error {
            ScheduleError::UnknownDefinition(id) => no_such_definition(&id),
            ScheduleError::NotScheduled(_) => {
                Self::new(&codes::NOT_SCHEDULED, text).with_hint("PUT it with \"schedule_type\": \"CRON\" and a cron_expr or interval_sec, or with a run_at")
            }
            ScheduleError::Ended { id, .. } => Self::new(&codes::SCHEDULE_ENDED, text)
                .with_hint(format!("POST /api/v1/definitions/{id}/trigger triggers it now; a PUT with another schedule begins a new one")),
            ScheduleError::Busy(_) => Self::new(&codes::UNAVAILABLE, text).with_retry_after(1),
            ScheduleError::ShuttingDown => shutting_down(),
            ScheduleError::Store(failure) => failure.into(),
        }
    }
}

impl From<DefinitionError> for Problem {
    fn from(error: DefinitionError) -> Self {
        match error {
            DefinitionError::Fields(errors) => {
                let errors = field_problems(errors.iter().map(|error| (error.pointer, error.message.as_str())), "");
                let detail = errors.first().map_or_else(String::new, |first| format!("{}: {}", first.pointer, first.message));
                Self::new(&codes::BAD_FIELDS, detail).with_errors(errors)
            }
            DefinitionError::Schema(why) => Self::field(&codes::SCHEMA_INVALID, "/params_schema", why),
            DefinitionError::Defaults(errors) => params_invalid(&errors, "/default_params"),
            DefinitionError::Code(problem) => Self::executor(problem.code, &problem.message, &codes::CODE_PROBLEM),
            DefinitionError::Store(failure) => failure.into(),
        }
    }
}

/// No trace with this id.
pub(crate) fn no_such_trace(id: TraceId) -> Problem {
    Problem::new(&codes::NO_SUCH_TRACE, format!("there is no trace {id}")).with_hint("GET /api/v1/traces lists them")
}

/// No task with this id.
pub(crate) fn no_such_task(id: TaskId) -> Problem {
    Problem::new(&codes::NO_SUCH_TASK, format!("there is no task {id}")).with_hint("GET /api/v1/traces/{id}/tasks lists those of a trace")
}

/// No definition with this id.
pub(crate) fn no_such_definition(id: &Name) -> Problem {
    Problem::new(&codes::NO_SUCH_DEFINITION, format!("there is no definition `{id}`")).with_hint("GET /api/v1/definitions lists them")
}

/// An order's refusal, where it was about a trace.
pub(crate) fn about_trace(error: OrderError, id: TraceId) -> Problem {
    match error {
        OrderError::NotFound => no_such_trace(id),
        other => other.into(),
    }
}
