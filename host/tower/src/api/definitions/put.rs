//! `PUT`, `POST` and `DELETE` of definitions.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;
use tower_domain::definition::DefinitionSpec;
use tower_domain::json::Json as JsonDocument;
use tower_domain::name::Name;
use tower_store::definitions::Put;

use crate::api::Api;
use crate::api::etag::{etag, must_be_new, replaces};
use crate::api::extract::{JsonText, PathOf, name, read_object};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::refusals::no_such_definition;
use crate::api::types::{CreateSpecBody, DefinitionBody, PutSpecBody, SpecBody};

/// What a client may send back of what it was given, and the tower knows better.
pub(crate) const READ_ONLY: [&str; 6] = ["version", "created_at", "updated_at", "schedule_status", "next_at", "next_firings"];

/// Put a definition
///
/// Makes it, or a new version of it; saying the same again makes none. With `If-Match: "<version>"` only if that is the current
/// version, with `If-None-Match: *` only if there is none. What the tower knows better (`id`, `version`, times, where the
/// schedule stands) may stand in the body as it was read.
///
/// A schedule begins with the definition, and anew when its fields change; other changes leave it as it is. One that is switched off does not
/// fire.
#[utoipa::path(
    put,
    path = "/definitions/{id}",
    tag = "definitions",
    params(
        ("id" = String, Path, description = "What it is called"),
        ("if-match" = Option<String>, Header, description = "The version that is to be replaced"),
        ("if-none-match" = Option<String>, Header, description = "`*`: only if there is none"),
    ),
    request_body = PutSpecBody,
    responses(
        (status = 200, description = "It has a new version, or says what it said", body = DefinitionBody),
        (status = 201, description = "It is new", body = DefinitionBody),
        (status = 412, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put_definition(
    State(api): State<Api>,
    PathOf(id): PathOf<Name>,
    headers: HeaderMap,
    JsonText { json, .. }: JsonText,
) -> Result<Response, Problem> {
    let (named, spec) = named_spec(&json)?;
    if named.is_some_and(|named| named != id) {
        return Err(Problem::field(&codes::BAD_FIELDS, "/id", "another id than the path's"));
    }
    put(&api, &id, spec, expected(&headers)?).await
}

/// Create a definition
///
/// As `PUT /definitions/{id}`, with the id in the body.
#[utoipa::path(
    post,
    path = "/definitions",
    tag = "definitions",
    params(
        ("if-match" = Option<String>, Header, description = "The version that is to be replaced"),
        ("if-none-match" = Option<String>, Header, description = "`*`: only if there is none"),
    ),
    request_body = CreateSpecBody,
    responses(
        (status = 200, description = "It has a new version, or says what it said", body = DefinitionBody),
        (status = 201, description = "It is new", body = DefinitionBody),
        (status = 412, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_definition(State(api): State<Api>, headers: HeaderMap, JsonText { json, .. }: JsonText) -> Result<Response, Problem> {
    let (named, spec) = named_spec(&json)?;
    let id = named.ok_or_else(|| Problem::field(&codes::BAD_FIELDS, "/id", "missing field `id`"))?;
    put(&api, &id, spec, expected(&headers)?).await
}

/// Switch a definition off
///
/// It can neither be triggered nor split to any more. Nothing is deleted: traces keep their version, and a PUT with
/// `"is_active": true` switches it on.
#[utoipa::path(
    delete,
    path = "/definitions/{id}",
    tag = "definitions",
    params(("id" = String, Path, description = "What it is called"), ("if-match" = Option<String>, Header, description = "The version that is to be switched off")),
    responses(
        (status = 200, body = DefinitionBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn deactivate_definition(State(api): State<Api>, PathOf(id): PathOf<Name>, headers: HeaderMap) -> Result<Response, Problem> {
    let current = api.stores().definitions.find(&id).await?.ok_or_else(|| no_such_definition(&id))?;
    let expected = replaces(&headers)?.unwrap_or(current.version);
    put(&api, &id, DefinitionSpec { is_active: false, ..current.spec }, Some(expected)).await
}

/// The id, if it is in the body, and the rest.
fn named_spec(json: &JsonDocument) -> Result<(Option<Name>, DefinitionSpec), Problem> {
    let not_object = |_| Problem::field(&codes::BAD_FIELDS, "", "an object is expected");
    let mut fields: BTreeMap<String, &RawValue> = json.read().map_err(not_object)?;
    fields.retain(|field, _| !READ_ONLY.contains(&field.as_str()));
    let named = fields.remove("id").map(|id| {
        let text: String = serde_json::from_str(id.get()).map_err(|_| Problem::field(&codes::BAD_FIELDS, "/id", "a name is expected"))?;
        name(&text).map_err(|problem| Problem::field(&codes::BAD_FIELDS, "/id", problem.detail()))
    });
    let rest = JsonDocument::of(&fields).map_err(|error| Problem::internal(&error))?;
    Ok((named.transpose()?, read_object::<SpecBody>(&rest)?.into()))
}

fn expected(headers: &HeaderMap) -> Result<Option<u32>, Problem> {
    // No version is 0, which stands for none.
    match replaces(headers)? {
        Some(0) => Err(Problem::new(&codes::BAD_HEADER, "If-Match: one ETag, as it was given")),
        Some(version) => Ok(Some(version)),
        None => Ok(must_be_new(headers).then_some(0)),
    }
}

async fn put(api: &Api, id: &Name, spec: DefinitionSpec, expected: Option<u32>) -> Result<Response, Problem> {
    let (status, definition) = match api.engine.put_definition(id, spec, expected).await? {
        Put::Created(definition) => (StatusCode::CREATED, definition),
        Put::Updated(definition) | Put::Unchanged(definition) => (StatusCode::OK, definition),
        Put::Stale { current: 0 } => {
            return Err(Problem::new(&codes::STALE_VERSION, format!("definition `{id}` does not exist")).with_hint("leave If-Match out to make it"));
        }
        Put::Stale { current } => {
            let hint = format!("read it again: GET /api/v1/definitions/{id}");
            return Err(Problem::new(&codes::STALE_VERSION, format!("definition `{id}` is at version {current}")).with_hint(hint));
        }
    };
    let schedule = api.stores().schedules.find(id).await?;
    let headers = [(header::LOCATION, format!("/api/v1/definitions/{id}")), (header::ETAG, etag(definition.version))];
    Ok((status, headers, Json(DefinitionBody::from(definition).with(schedule))).into_response())
}
