//! `/schedules`, `/control-events`, and what is about the schedule of a definition.

mod list;
mod next;
mod orders;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;

pub(super) use next::{FIRINGS_MAX, firings};
pub(super) use orders::order;

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list::list_schedules))
        .routes(routes!(next::preview_schedule))
        .routes(routes!(next::find_next_firings))
        .routes(routes!(orders::pause_schedule))
        .routes(routes!(orders::resume_schedule))
        .routes(routes!(orders::cancel_schedule))
        .routes(routes!(list::list_orders))
}
