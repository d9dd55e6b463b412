//! `POST /modules`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tower_domain::code_ref::{Digest, LATEST};
use tower_domain::module::Module;
use tower_domain::name::Name;
use utoipa::IntoParams;

use crate::api::Api;
use crate::api::extract::{QueryOf, Room, media_type, read_body};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::traces::CALLER;
use crate::api::types::ModuleBody;

/// When to come again if there is no room, in seconds.
const BUSY_RETRY_AFTER_SEC: u32 = 5;

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
/// With the header `Digest: sha256:<hex>` the bytes are checked against it. A host takes a bounded number of uploads at the same time and
/// answers 429 beyond it.
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
        (status = 429, body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn upload_module(State(api): State<Api>, QueryOf(query): QueryOf<UploadQuery>, request: Request) -> Result<Response, Problem> {
    let (headers, bytes, room) = component(request, &api).await?;
    let place = api.uploads.clone().try_acquire_owned().map_err(|_| busy("too many uploads are under way"))?;
    // On a task of its own, to the end even if the caller hangs up: as long as the bytes are held, their room and place are.
    let taking = tokio::spawn(async move {
        let _held = (room, place);
        let module = admit(&api, &headers, bytes.clone()).await?;
        let is_new = keep(&api, &query, &module, bytes).await?;
        Ok(answer(query, module, is_new))
    });
    taking.await.map_err(|error| Problem::internal(&error))?
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
    let hashed = bytes.clone();
    let digest = tokio::task::spawn_blocking(move || Digest(Sha256::digest(&hashed).into())).await.map_err(|error| Problem::internal(&error))?;
    if promised.transpose()?.is_some_and(|promised| promised != digest) {
        return Err(
            Problem::new(&codes::DIGEST_MISMATCH, format!("the bytes that came are {digest}")).with_hint("send it again: it may have been damaged on its way")
        );
    }
    // What was admitted once need not be compiled to be admitted again.
    if let Some(module) = api.stores().modules.find(&digest).await? {
        return Ok(module);
    }
    let inspection = api.gate.admit(bytes).await.map_err(|problem| match problem.code {
        code if code == codes::COMPILE_BUSY.name => busy(&problem.message),
        code => Problem::executor(code, &problem.message, &codes::MODULE_REFUSED),
    })?;
    Ok(Module { inspection, created_by: CALLER.to_owned(), created_at: api.engine.clock().now() })
}

fn busy(detail: &str) -> Problem {
    Problem::new(&codes::COMPILE_BUSY, detail).with_hint("wait a little and send it again").with_retry_after(BUSY_RETRY_AFTER_SEC)
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
