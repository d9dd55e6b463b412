//! `/events`: what outside callers saw happen.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;
use super::extract::{Fields, JsonText, read_json};
use super::problem::{Problem, ProblemBody, codes};
use super::types::{List, OneOrMany, PostEvent, VerdictBody};

/// Most events in one request.
const EVENTS_MAX: usize = 1_000;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(post_events))
}

/// Report events
///
/// One event, or an array of at most 1000. Each is judged by itself: the answer has a verdict for each, in order. The same
/// `event_id` twice changes nothing.
#[utoipa::path(
    post,
    path = "/events",
    tag = "events",
    request_body = OneOrMany,
    responses(
        (status = 200, body = List<VerdictBody>),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn post_events(State(api): State<Api>, JsonText { json, .. }: JsonText) -> Result<Json<List<VerdictBody>>, Problem> {
    let events = one_or_many(&json)?;
    let ids: Vec<_> = events.iter().map(|event| event.event_id.clone()).collect();
    let verdicts = api.engine.post_events(events.into_iter().map(Into::into).collect()).await?;
    Ok(Json(List::whole(ids.into_iter().zip(verdicts).map(|(id, verdict)| VerdictBody::of(id, verdict)).collect())))
}

fn one_or_many(json: &tower_domain::json::Json) -> Result<Vec<PostEvent>, Problem> {
    let events: Vec<Fields<PostEvent>> = if json.as_str().starts_with('[') { read_json(json)? } else { vec![read_json(json)?] };
    let events: Vec<PostEvent> = events.into_iter().map(|Fields(event)| event).collect();
    let sound = |event: &PostEvent| (1..=tower_domain::event::EVENT_ID_BYTES_MAX).contains(&event.event_id.len());
    if events.len() > EVENTS_MAX {
        return Err(Problem::field(&codes::BAD_FIELDS, "", format!("at most {EVENTS_MAX} events in one request")));
    }
    match events.iter().position(|event| !sound(event)) {
        Some(index) => Err(Problem::field(&codes::BAD_FIELDS, format!("/{index}/event_id"), format!("1 to {} bytes", tower_domain::event::EVENT_ID_BYTES_MAX))),
        None => Ok(events),
    }
}
