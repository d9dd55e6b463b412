//! `/traces`: runs.

mod events;
mod find;
mod list;
mod logs;
mod orders;
mod rounds;
mod start;
mod stream;
mod tasks;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Api;

pub(super) use list::{TraceQuery, page_of};
pub(super) use logs::{LogQuery, log_page};
pub(super) use orders::{cancel, check_reason, hold, hold_or_cancel, rerun};
pub(super) use start::{WaitQuery, begin, started};
pub(super) use tasks::{TaskQuery, list};

/// Who gives orders, until callers have names.
pub(crate) const CALLER: &str = "api";

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list::list_traces, start::start_trace))
        .routes(routes!(start::start_trace_alias))
        .routes(routes!(find::find_trace))
        .routes(routes!(tasks::list_trace_tasks))
        .routes(routes!(events::list_trace_events))
        .routes(routes!(logs::list_trace_logs))
        .routes(routes!(orders::list_control_events))
        .routes(routes!(orders::cancel_trace))
        .routes(routes!(orders::pause_trace))
        .routes(routes!(orders::resume_trace))
        .routes(routes!(rounds::list_rounds))
        .routes(routes!(orders::retry_trace))
        .routes(routes!(orders::rerun_trace))
        .routes(routes!(list::list_user_traces))
}
