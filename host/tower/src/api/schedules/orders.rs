//! `POST /definitions/{id}/pause`, `/resume` and `/cancel`.

use axum::Json;
use axum::extract::State;
use tower_domain::name::Name;
use tower_engine::schedules::ScheduleWish;

use crate::api::Api;
use crate::api::extract::{OptionalJson, PathOf};
use crate::api::problem::{Problem, ProblemBody};
use crate::api::traces::{CALLER, check_reason};
use crate::api::types::{Reason, ScheduleBody};

/// Pause a schedule
///
/// Nothing fires until it is resumed, and what was queued behind a trace is dropped. Traces that run go on, and the definition can be
/// triggered.
#[utoipa::path(
    post,
    path = "/definitions/{id}/pause",
    tag = "schedules",
    params(("id" = String, Path, description = "What the definition is called")),
    request_body = Reason,
    responses(
        (status = 200, description = "Where it stands now; or stood already", body = ScheduleBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn pause_schedule(State(api): State<Api>, PathOf(id): PathOf<Name>, reason: OptionalJson<Reason>) -> Result<Json<ScheduleBody>, Problem> {
    order(&api, &id, ScheduleWish::Pause, reason.value).await
}

/// Resume a schedule
///
/// It fires again from now on. What passed while it was paused was not missed.
#[utoipa::path(
    post,
    path = "/definitions/{id}/resume",
    tag = "schedules",
    params(("id" = String, Path, description = "What the definition is called")),
    request_body = Reason,
    responses(
        (status = 200, description = "Where it stands now; or stood already", body = ScheduleBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn resume_schedule(State(api): State<Api>, PathOf(id): PathOf<Name>, reason: OptionalJson<Reason>) -> Result<Json<ScheduleBody>, Problem> {
    order(&api, &id, ScheduleWish::Resume, reason.value).await
}

/// Cancel a schedule
///
/// It never fires again. Traces that run go on. A PUT of the definition with another schedule begins a new one.
#[utoipa::path(
    post,
    path = "/definitions/{id}/cancel",
    tag = "schedules",
    params(("id" = String, Path, description = "What the definition is called")),
    request_body = Reason,
    responses(
        (status = 200, description = "Where it stands now; or stood already", body = ScheduleBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel_schedule(State(api): State<Api>, PathOf(id): PathOf<Name>, reason: OptionalJson<Reason>) -> Result<Json<ScheduleBody>, Problem> {
    order(&api, &id, ScheduleWish::Cancel, reason.value).await
}

/// Orders something about a schedule.
pub(crate) async fn order(api: &Api, id: &Name, wish: ScheduleWish, Reason { reason }: Reason) -> Result<Json<ScheduleBody>, Problem> {
    check_reason(&reason)?;
    let (schedule, _) = api.engine.order_schedule(id, wish, CALLER, &reason).await?;
    Ok(Json(schedule.into()))
}
