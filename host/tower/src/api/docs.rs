//! The OpenAPI document and the page that shows it. Both come out of the binary.

use axum::routing::get;
use axum::{Json, Router};
use tower_store::read::PAGE_MAX;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{AnyOf, ArrayItems, Components, Object, Schema};
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

/// Adds what the types do not say: the answers that no single path decides about (those of the layers and of what reads requests), what
/// segments of paths look like, and composed types as one.
pub(super) fn complete(document: &mut OpenApi) {
    document.components.iter_mut().for_each(compose);
    // Here a segment is a segment; that this one may have slashes is said in words.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            add(operation, &codes::CROSS_SITE);
        }
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            operation.parameters.iter_mut().flatten().for_each(describe);
            let everywhere = [&codes::BAD_REQUEST, &codes::WRONG_HOST, &codes::INTERNAL, &codes::UNAVAILABLE];
            everywhere.into_iter().for_each(|code| add(operation, code));
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                // Bytes have no schema.
                if let Some(RefOr::T(content)) = body.content.get_mut("application/wasm") {
                    content.schema = None;
                }
                let of_bodies = [&codes::BODY_TOO_SLOW, &codes::TOO_LARGE, &codes::WRONG_MEDIA_TYPE, &codes::BAD_FIELDS];
                of_bodies.into_iter().for_each(|code| add(operation, code));
            }
            if operation.parameters.iter().flatten().any(is_query) {
                add(operation, &codes::BAD_QUERY);
            }
        }
    }
}

/// Makes one object of what is composed of several: a part that takes no other fields would refuse those of the other parts.
fn compose(components: &mut Components) {
    let parts = components.schemas.clone();
    let part = |item: &RefOr<Schema>| match item {
        RefOr::Ref(reference) => parts.get(reference.ref_location.rsplit('/').next()?).cloned(),
        whole @ RefOr::T(_) => Some(whole.clone()),
    };
    // Lists repeat what their items are composed of.
    let name_of = |item: &RefOr<Schema>| parts.iter().find(|(_, whole)| matches!(whole, RefOr::T(Schema::AllOf(_))) && *whole == item).map(|(name, _)| name);
    for schema in components.schemas.values_mut() {
        if let RefOr::T(Schema::Object(list)) = schema
            && let Some(RefOr::T(Schema::Array(array))) = list.properties.get_mut("items")
            && let ArrayItems::RefOrSchema(item) = &mut array.items
            && let Some(name) = name_of(item)
        {
            **item = Ref::from_schema_name(name).into();
        }
        // Of two kinds of lists, an empty one is either.
        if let RefOr::T(Schema::OneOf(one)) = schema
            && one.discriminator.is_none()
            && one.items.iter().all(|item| matches!(item, RefOr::Ref(_)))
        {
            *schema = RefOr::T(Schema::AnyOf(AnyOf { items: one.items.clone(), description: one.description.take(), ..AnyOf::default() }));
        }
        let RefOr::T(Schema::AllOf(all)) = schema else { continue };
        let mut one = Object::default();
        one.description = all.description.take();
        for item in &all.items {
            if let Some(RefOr::T(Schema::Object(object))) = part(item) {
                one.properties.extend(object.properties);
                one.required.extend(object.required);
                one.schema_type = object.schema_type;
                one.description = one.description.or(object.description);
            }
        }
        *schema = RefOr::T(Schema::Object(one));
    }
}

/// What may stand in a segment of a path, and how many items on a page.
fn describe(parameter: &mut RefOr<Parameter>) {
    let RefOr::T(parameter) = parameter else { return };
    let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else { return };
    let in_path = parameter.parameter_in == ParameterIn::Path;
    schema.pattern = match parameter.name.as_str() {
        "trace_id" if in_path => Some("^(trc_)?[0-7][0-9A-HJKMNP-TV-Z]{25}$".to_owned()),
        "task_id" if in_path => Some("^(tsk_)?[0-7][0-9A-HJKMNP-TV-Z]{25}$".to_owned()),
        "session_id" if in_path => Some("^(ses_)?[0-7][0-9A-HJKMNP-TV-Z]{25}$".to_owned()),
        "id" | "name" if in_path => Some("^[a-z0-9][a-z0-9._-]{0,127}$".to_owned()),
        "tag" if in_path => Some("^([a-z0-9][a-z0-9._-]{0,127}|sha256:[0-9a-f]{64})$".to_owned()),
        "digest" => Some("^sha256:[0-9a-f]{64}$".to_owned()),
        _ => schema.pattern.take(),
    };
    if parameter.name == "limit" {
        (schema.minimum, schema.maximum) = (Some(1.into()), Some(PAGE_MAX.into()));
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
