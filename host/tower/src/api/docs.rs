//! The OpenAPI document and the page that shows it. Both come out of the binary.

use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::{ContactBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Api;

/// Where the document is.
pub(super) const DOCUMENT_PATH: &str = "/api/v1/openapi.json";

/// The document before any path is in it.
pub(super) fn head() -> OpenApi {
    let about = "Runs trees of agent-workflow steps as sandboxed WebAssembly components.\n\n\
        Ids are ULIDs; they are taken with or without the prefixes `trc_` and `tsk_`. Times are RFC 3339 in UTC. Lists are \
        `{\"items\": [], \"next_cursor\": null}`, 50 items a page unless `limit` (1 to 500) says otherwise. Everything that is refused is \
        answered with problem details (RFC 9457): `application/problem+json` with a stable `code`, the places that are wrong in \
        `errors`, and a `hint`.";
    let info =
        InfoBuilder::new().title("Command Tower").version(env!("CARGO_PKG_VERSION")).description(Some(about)).contact(Some(ContactBuilder::new().build()));
    OpenApiBuilder::new().info(info.build()).build()
}

/// The document's paths, and the page.
pub(super) fn router(document: OpenApi) -> Router<Api> {
    let text = Json(document);
    let serve = get(move || std::future::ready(text.clone()));
    let page = SwaggerUi::new("/docs").config(Config::from(DOCUMENT_PATH));
    Router::new().route(DOCUMENT_PATH, serve.clone()).route("/openapi.json", serve).merge(page)
}
