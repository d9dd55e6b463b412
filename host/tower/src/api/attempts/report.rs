//! Telling the outside what is going on.

use axum::http::StatusCode;
use tower_domain::definition::is_plain;
use tower_domain::json::Json as JsonDocument;
use tower_outside::desk::Attempt;
use tower_outside::wire::{NameSessionBody, ReportBody};
use utoipa::ToSchema;

use super::Ours;
use crate::api::extract::{JsonBody, JsonText, read_json};
use crate::api::problem::{Problem, ProblemBody, codes};

/// Most reports in one request.
const REPORTS_MAX: usize = 1_000;

/// One report, or an array of at most 1000.
#[derive(ToSchema)]
#[schema(as = OneOrManyReports)]
#[expect(dead_code, reason = "says what the body looks like; it is read as text")]
pub(super) enum OneOrManyReports {
    /// One.
    #[schema(title = "one")]
    One(ReportBody),
    /// Several.
    #[schema(title = "many")]
    Many(Vec<ReportBody>),
}

/// Report on the step
///
/// Progress, log lines and pieces of output; one or an array. They are observations: kept even if the attempt fails, progress coalesced,
/// logs within the definition's bound. Any report is a sign of life as well.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/events",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = OneOrManyReports,
    responses(
        (status = 204, description = "Taken"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn report_on_attempt(ours: Ours, JsonText { json, .. }: JsonText) -> Result<StatusCode, Problem> {
    tell(&ours.attempt, &json)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give the step's session another name
///
/// What the code calls the session from now on, such as the id of a conversation elsewhere. Kept with the step's good end; of a step without
/// a session nothing is kept.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/session",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = NameSessionBody,
    responses(
        (status = 204, description = "Taken"),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn name_session(ours: Ours, JsonBody { value, .. }: JsonBody<NameSessionBody>) -> Result<StatusCode, Problem> {
    if !is_plain(&value.sdk_session_id) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/sdk_session_id", "at most 1024 bytes of text without control characters"));
    }
    ours.attempt.host().set_sdk_session_id(value.sdk_session_id);
    Ok(StatusCode::NO_CONTENT)
}

/// Hands reports to the step's host.
fn tell(attempt: &Attempt, json: &JsonDocument) -> Result<(), Problem> {
    let reports: Vec<ReportBody> = if json.as_str().starts_with('[') { read_json(json)? } else { vec![read_json(json)?] };
    if reports.len() > REPORTS_MAX {
        return Err(Problem::field(&codes::BAD_FIELDS, "", format!("at most {REPORTS_MAX} reports in one request")));
    }
    let host = &**attempt.host();
    reports.into_iter().for_each(|report| report.tell(host));
    Ok(())
}
