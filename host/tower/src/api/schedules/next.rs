//! `GET /definitions/{id}/next` and `POST /schedules/preview`.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tower_domain::clock::Timestamp;
use tower_domain::definition::DefinitionSpec;
use tower_domain::json::Json as JsonDocument;
use tower_domain::name::Name;
use tower_domain::schedule::next::Beat;
use tower_domain::schedule::zone::Zone;
use tower_domain::schedule::{Plan, check};
use tower_engine::orders::DefinitionError;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{JsonBody, PathOf, QueryOf, from_text};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::types::{Firing, Firings, PreviewSchedule};

/// Most firings that one request asks for.
pub(crate) const FIRINGS_MAX: u32 = 100;

/// How many firings.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NextQuery {
    /// 1 to 100; default 10.
    #[serde(deserialize_with = "from_text")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    n: Option<u32>,
}

/// Find the next firings of a definition
///
/// None of a schedule that is paused, has ended, or whose definition is switched off.
#[utoipa::path(
    get,
    path = "/definitions/{id}/next",
    tag = "schedules",
    params(("id" = String, Path, description = "What it is called"), NextQuery),
    responses(
        (status = 200, body = Firings),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn find_next_firings(State(api): State<Api>, PathOf(id): PathOf<Name>, QueryOf(query): QueryOf<NextQuery>) -> Result<Json<Firings>, Problem> {
    let count = query.n.unwrap_or(10);
    if !(1..=FIRINGS_MAX).contains(&count) {
        return Err(Problem::field(&codes::BAD_QUERY, "?n", format!("1 to {FIRINGS_MAX}")));
    }
    let (plan, instants) = api.engine.next_firings(&id, count as usize).await?;
    Ok(Json(firings(&plan, instants)))
}

/// Try a schedule
///
/// What a definition with these fields would fire, without saving anything.
#[utoipa::path(
    post,
    path = "/schedules/preview",
    tag = "schedules",
    request_body = PreviewSchedule,
    responses((status = 200, body = Firings), (status = 422, body = ProblemBody, content_type = "application/problem+json")),
)]
pub(crate) async fn preview_schedule(State(api): State<Api>, JsonBody { value: wanted, .. }: JsonBody<PreviewSchedule>) -> Result<Json<Firings>, Problem> {
    if !(1..=FIRINGS_MAX).contains(&wanted.n) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/n", format!("1 to {FIRINGS_MAX}")));
    }
    let any = JsonDocument::trusted(r#"{"actor_type":"EXECUTION","code_ref":"wasm://preview"}"#);
    let spec: DefinitionSpec = any.read().map_err(|error| Problem::internal(&error))?;
    let spec = wanted.spec(spec);
    let mut errors = check::check(&spec);
    errors.extend(api.engine.too_often(&spec));
    if !errors.is_empty() {
        return Err(DefinitionError::Fields(errors).into());
    }
    let plan = Plan::of(&spec).ok_or_else(|| Problem::field(&codes::BAD_FIELDS, "/run_at", "without it there is nothing that fires by itself"))?;
    let from = wanted.from.unwrap_or_else(|| api.engine.clock().now());
    let instants = std::iter::successors(plan.next(from, from), |at| plan.next(*at, from)).take(wanted.n as usize);
    Ok(Json(firings(&plan, instants.collect())))
}

/// As bodies have them.
pub(crate) fn firings(plan: &Plan, instants: Vec<Timestamp>) -> Firings {
    let zone = match plan.beat {
        Beat::Cron(_, zone) => zone,
        Beat::At(_) | Beat::Every(_) => Zone::UTC,
    };
    let items = instants.into_iter().map(|at| Firing { at, local: zone.text(at.to_chrono()) }).collect();
    Firings { words: plan.in_words(), timezone: zone.to_string(), items }
}
