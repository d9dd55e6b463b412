//! The OpenAPI document and the page that shows it. Both come out of the binary.

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{ContactBuilder, Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Api;
use super::problem::{Code, codes};

/// Where the document is.
pub(super) const DOCUMENT_PATH: &str = "/api/v1/openapi.json";

/// The document before any path is in it.
pub(super) fn head() -> OpenApi {
    let about = "Runs trees of agent-workflow steps as sandboxed WebAssembly components.\n\n\
        Ids are ULIDs; they are taken with or without the prefixes `trc_` and `tsk_`. Times are RFC 3339 in UTC. Lists are \
        `{\"items\": [], \"next_cursor\": null}`, 50 items a page unless `limit` (1 to 500) says otherwise. Everything that is refused is \
        answered with problem details (RFC 9457): `application/problem+json` with a stable `code`, the places that are wrong in \
        `errors`, and a `hint`.\n\n\
        An id in the path that nobody has is answered 404. Filters select: one that nothing fits, an unknown id among them, gives an empty \
        list. What stands under `compatibility` are paths without the prefix, for older clients; `/livez`, `/readyz` and `/health` are there \
        for whoever watches the process. A connection that finds no place is answered 503 before its request is read, and a head of a \
        request that breaks HTTP itself, or is larger than 64 KiB, is answered 400, 414 or 431 without a body.";
    let info =
        InfoBuilder::new().title("Command Tower").version(env!("CARGO_PKG_VERSION")).description(Some(about)).contact(Some(ContactBuilder::new().build()));
    OpenApiBuilder::new().info(info.build()).build()
}

/// Adds the answers that no single path decides about: those of the layers and of what reads requests.
pub(super) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            add(operation, &codes::CROSS_SITE);
        }
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            let everywhere = [&codes::BAD_REQUEST, &codes::WRONG_HOST, &codes::INTERNAL, &codes::UNAVAILABLE];
            everywhere.into_iter().for_each(|code| add(operation, code));
            if operation.request_body.is_some() {
                let of_bodies = [&codes::BODY_TOO_SLOW, &codes::TOO_LARGE, &codes::WRONG_MEDIA_TYPE, &codes::BAD_FIELDS];
                of_bodies.into_iter().for_each(|code| add(operation, code));
            }
            if operation.parameters.iter().flatten().any(is_query) {
                add(operation, &codes::BAD_QUERY);
            }
        }
    }
}

fn is_query(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query)
}

fn add(operation: &mut Operation, code: &Code) {
    let schema = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = || ResponseBuilder::new().description(code.title).content("application/problem+json", schema).build();
    operation.responses.responses.entry(code.status.to_string()).or_insert_with(|| response().into());
}

/// The document's paths, and the page.
pub(super) fn router(document: OpenApi) -> Router<Api> {
    let text = Json(document);
    let serve = get(move || std::future::ready(text.clone()));
    let page = SwaggerUi::new("/docs").config(Config::from(DOCUMENT_PATH));
    Router::new().route(DOCUMENT_PATH, serve.clone()).route("/openapi.json", serve).merge(page)
}
