//! How an attempt ended → how the step ended. The codes are explained in `tower_domain::codes`.

use tower_domain::codes;
use tower_domain::definition::bounds::JSON_BYTES_MAX;
use tower_domain::json::Json;
use tower_domain::step::{FoldError, Step, StepEnd, StepFailure, StepHost, Stop, fold_by_key};
use tower_domain::task::Leg;

/// A step that was stopped where it is.
pub fn stopped(stop: Stop) -> StepEnd {
    match stop {
        Stop::Cancelled => StepEnd::Cancelled,
        Stop::Released => StepEnd::Released,
    }
}

/// A step that took too long.
pub fn timed_out(step: &Step) -> StepEnd {
    retryable(codes::GUEST_TIMEOUT.name, format!("stopped after {:?}, its timeout; raise timeout_sec, or do less in one step", step.timeout))
}

/// A failure that may go away by itself.
pub fn retryable(code: &str, message: impl AsRef<str>) -> StepEnd {
    StepEnd::Failed(StepFailure::retryable(code, message))
}

/// A failure that will not.
pub fn fatal(code: &str, message: impl AsRef<str>) -> StepEnd {
    StepEnd::Failed(StepFailure::fatal(code, message))
}

/// What a step leaves is too long; none: it is not.
pub fn too_large(json: &Json) -> Option<StepEnd> {
    let bytes = json.as_str().len();
    let message = format!("the result is too large: {bytes} bytes, and {JSON_BYTES_MAX} bytes is the most");
    (bytes > JSON_BYTES_MAX).then(|| fatal(codes::GUEST_RESULT_TOO_LARGE.name, message))
}

/// The end of a leg that code which does not fold is not asked about: the children's outputs by key. None: the code is to run.
pub async fn without_code(step: &Step, host: &dyn StepHost) -> Option<StepEnd> {
    if step.leg != Leg::Aggregate || step.definition.spec.folds {
        return None;
    }
    let end = match fold_by_key(host).await {
        Ok(output) => StepEnd::Finished { output, last: false },
        Err(error @ FoldError::TooLarge) => fatal(codes::GUEST_RESULT_TOO_LARGE.name, error.to_string()),
        Err(FoldError::Trouble(trouble)) => retryable(codes::HOST_TROUBLE.name, trouble.to_string()),
    };
    Some(end)
}
