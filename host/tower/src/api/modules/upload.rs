//! `POST /modules`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use tower_domain::code_ref::{Digest, LATEST};
use tower_domain::module::Module;
use tower_domain::name::Name;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{QueryOf, Room, media_type, read_body};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::traces::CALLER;
use crate::api::types::ModuleBody;

/// What an upload is to be called.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadQuery {
    /// The module's name.
    #[param(value_type = String)]
    name: Name,
    /// The tag to move to it; default `latest`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    tag: Option<Name>,
}

/// Upload a module
///
/// The body is the component itself. It is inspected and compiled before it is taken. The same bytes again change nothing but the tag.
/// With the header `Digest: sha256:<hex>` the bytes are checked against it.
#[utoipa::path(
    post,
    path = "/modules",
    tag = "modules",
    params(UploadQuery, ("digest" = Option<String>, Header, description = "`sha256:` and 64 hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses(
        (status = 201, description = "It is new", body = ModuleBody),
        (status = 200, description = "The same bytes were there", body = ModuleBody),
        (status = 413, body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn upload_module(State(api): State<Api>, QueryOf(query): QueryOf<UploadQuery>, request: Request) -> Result<Response, Problem> {
    // The room is kept until the bytes are where they belong.
    let (headers, bytes, _room) = component(request, &api).await?;
    let module = admit(&api, &headers, bytes.clone()).await?;
    let is_new = keep(&api, &query, &module, bytes).await?;
    Ok(answer(query, module, is_new))
}

async fn component(request: Request, api: &Api) -> Result<(HeaderMap, Bytes, Room), Problem> {
    let (parts, body) = request.into_parts();
    if !matches!(media_type(&parts.headers).as_deref(), Some("application/wasm" | "application/octet-stream")) {
        return Err(Problem::new(&codes::WRONG_MEDIA_TYPE, "this path takes a component").with_hint("send Content-Type: application/wasm"));
    }
    let (bytes, room) = read_body(&parts.headers, body, api.settings.module_bytes_max, api).await?;
    Ok((parts.headers, bytes, room))
}

async fn admit(api: &Api, headers: &HeaderMap, bytes: Bytes) -> Result<Module, Problem> {
    let promised = headers.get("digest").map(|text| {
        let digest = text.to_str().ok().and_then(|text| text.parse::<Digest>().ok());
        digest.ok_or_else(|| Problem::new(&codes::BAD_HEADER, "Digest: `sha256:` and 64 hexadecimal digits in lower case"))
    });
    let promised = promised.transpose()?;
    // On a task of its own: compiling goes on to its end, and is kept, even if the caller hangs up.
    let gate = api.gate.clone();
    let admitted = tokio::spawn(async move { gate.admit(bytes).await }).await.map_err(|error| Problem::internal(&error))?;
    let inspection = admitted.map_err(|problem| Problem::executor(problem.code, &problem.message, &codes::MODULE_REFUSED))?;
    if promised.is_some_and(|promised| promised != inspection.digest) {
        return Err(Problem::new(&codes::DIGEST_MISMATCH, format!("the bytes that came are {}", inspection.digest))
            .with_hint("send it again: it may have been damaged on its way"));
    }
    Ok(Module { inspection, created_by: CALLER.to_owned(), created_at: api.engine.clock().now() })
}

/// The bytes first: what is known of a module never speaks of bytes that are not there.
async fn keep(api: &Api, query: &UploadQuery, module: &Module, bytes: Bytes) -> Result<bool, Problem> {
    api.stores().blobs.put(bytes.into()).await?;
    let tag = tag_of(query)?;
    Ok(api.stores().modules.add(module, &query.name, &[tag], module.created_at).await?)
}

fn tag_of(query: &UploadQuery) -> Result<Name, Problem> {
    query.tag.clone().map_or_else(|| super::name(LATEST), Ok)
}

fn answer(query: UploadQuery, module: Module, is_new: bool) -> Response {
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = format!("/api/v1/modules/{}/tags/{}", query.name, module.inspection.digest);
    let tag = tag_of(&query).ok();
    (status, [(header::LOCATION, location)], Json(ModuleBody::of(query.name, tag, module))).into_response()
}
