//! Hearing what the outside wants.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::step::Signal;
use tower_outside::wire::SignalBody;
use utoipa::IntoParams;

use super::Ours;
use crate::api::Api;
use crate::api::extract::{QueryOf, Wait};
use crate::api::problem::{Problem, ProblemBody, codes};

/// How long to wait for news.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SignalQuery {
    /// Answer once there is something to hear, or after this long, at most 60s: `30s`. Absent: at once.
    #[param(value_type = Option<String>, example = "30s")]
    wait: Wait,
    /// What was heard before, so that a pause that is known is nothing new: `GO_ON` or `PAUSE`.
    heard: Option<String>,
}

/// Hear what the outside wants
///
/// `GO_ON`, `PAUSE` or `CANCEL`. Cheap, without `wait` answered from memory; with it, a long poll. A sign of life as well.
#[utoipa::path(
    get,
    path = "/attempts/{task_id}/check-cancel",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for"), SignalQuery),
    responses(
        (status = 200, body = SignalBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn check_cancel(State(api): State<Api>, ours: Ours, QueryOf(query): QueryOf<SignalQuery>) -> Result<Json<SignalBody>, Problem> {
    let heard = match query.heard.as_deref() {
        None | Some("GO_ON") => Signal::GoOn,
        Some("PAUSE") => Signal::Pause,
        Some(_) => return Err(Problem::field(&codes::BAD_QUERY, "?heard", "`GO_ON` or `PAUSE`: what the call before was answered")),
    };
    let host = ours.attempt.host();
    if let Some(wait) = query.wait.0 {
        tokio::select! {
            biased;
            () = host.signalled(&heard) => {}
            () = tokio::time::sleep(wait) => {}
            () = api.stop.cancelled() => {}
        }
        ours.attempt.touch();
    }
    Ok(Json(host.signal().into()))
}

/// Say that the step is still being worked on
///
/// Whoever holds a step and says nothing for `lease_ms` has lost it. Answered with what the outside wants.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/heartbeat",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    responses(
        (status = 200, body = SignalBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn heartbeat(ours: Ours) -> Json<SignalBody> {
    Json(ours.attempt.host().signal().into())
}
