//! `/definitions` and `/users/{id}/definitions`: templates.

mod find;
mod list;
mod put;
mod trigger;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;

pub(super) use list::{DefinitionQuery, list_definitions};

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list::list_definitions, put::create_definition))
        .routes(routes!(find::find_definition, put::put_definition, put::deactivate_definition))
        .routes(routes!(list::list_definition_traces))
        .routes(routes!(trigger::trigger_definition))
        .routes(routes!(list::list_user_definitions))
}
