//! Reading the step, and the results that it is to fold.

use axum::Json;
use serde::Deserialize;
use tower_domain::id::TaskId;
use tower_domain::step::RESULT_PAGE_MAX;
use tower_outside::wire::{ResultPageBody, StepBody};
use utoipa::IntoParams;

use super::Ours;
use crate::api::extract::{QueryOf, cursor};
use crate::api::problem::{Problem, ProblemBody, codes};

/// Read the step
///
/// The same as was handed over with the token.
#[utoipa::path(
    get,
    path = "/attempts/{task_id}",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    responses(
        (status = 200, body = StepBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn find_attempt(ours: Ours) -> Json<StepBody> {
    Json(StepBody::from(&**ours.attempt.step()))
}

/// Which results.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ResultQuery {
    /// 1 to 1000; default 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Read the results that there are to fold
///
/// In the leg `AGGREGATE` those of the children, for an aggregator those of the tasks that it depends on; page by page, in the order in
/// which the tasks were split off. Else there are none.
#[utoipa::path(
    get,
    path = "/attempts/{task_id}/results",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for"), ResultQuery),
    responses(
        (status = 200, body = ResultPageBody),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list_results(ours: Ours, QueryOf(query): QueryOf<ResultQuery>) -> Result<Json<ResultPageBody>, Problem> {
    let after: Option<TaskId> = cursor(query.cursor.as_deref())?;
    let bad = || Problem::field(&codes::BAD_QUERY, "?limit", format!("1 to {RESULT_PAGE_MAX}"));
    let limit = match &query.limit {
        None => 100,
        Some(text) => text.parse().ok().filter(|limit| (1..=RESULT_PAGE_MAX).contains(limit)).ok_or_else(bad)?,
    };
    let page = ours.attempt.host().results(after, limit).await.map_err(|trouble| Problem::new(&codes::HOST_TROUBLE, trouble.to_string()))?;
    Ok(Json(page.into()))
}
