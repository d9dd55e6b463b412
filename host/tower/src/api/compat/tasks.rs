//! `/tasks` and `/users/{id}/tasks` without the prefix: an earlier design of a task service, whose tasks are definitions with a schedule.
//!
//! | there | here |
//! |---|---|
//! | a task of trigger type IMMEDIATE | a ONCE definition, triggered at once |
//! | SCHEDULED with `run_at` | a ONCE definition with that `run_at` |
//! | LOOP with `interval_sec` or `cron_expr` | a CRON definition: each firing is a trace of its own |
//! | an instance | a trace |

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tower_domain::clock::Timestamp;
use tower_domain::definition::{Definition, DefinitionSpec};
use tower_domain::id::{SessionId, TraceId};
use tower_domain::json::Json as JsonDocument;
use tower_domain::name::Name;
use tower_domain::schedule::ScheduleType;
use tower_domain::task::Status as TraceStatus;
use tower_engine::orders::Control;
use tower_engine::schedules::{ScheduleError, ScheduleWish};
use tower_store::definitions::Put;
use tower_store::read::{PAGE_MAX, PageRequest, TraceFilter};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::Api;
use crate::api::definitions::{DefinitionQuery, list_definitions};
use crate::api::extract::{JsonBody, OptionalJson, PathOf, QueryOf, fields};
use crate::api::problem::{Problem, ProblemBody, codes};
use crate::api::refusals::no_such_definition;
use crate::api::schedules;
use crate::api::traces::{CALLER, TraceQuery, begin, hold_or_cancel, page_of};
use crate::api::types::{DefinitionBody, Reason, ScheduleBody, ScheduleState, StartTrace, TraceBody, TriggerOptions};

/// What stands before the id of a task that was created here.
const PREFIX: &str = "task-";

pub(super) fn router() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(create_task))
        .routes(routes!(find_task))
        .routes(routes!(pause_task))
        .routes(routes!(resume_task))
        .routes(routes!(cancel_task))
        .routes(routes!(trigger_task))
        .routes(routes!(list_instances))
        .routes(routes!(list_user_tasks))
}

/// A task to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTask {
    /// Whose it is.
    user_id: String,
    /// What is to be done: the param `content` of the definition that does it.
    content: String,
    #[serde(default)]
    trigger_type: TaskTrigger,
    #[serde(default, deserialize_with = "fields")]
    trigger_args: TriggerArgs,
    /// The definition that does the work. Absent: the one that the tower was started with (`--task-definition`).
    #[serde(default, alias = "def_id", alias = "definition")]
    #[schema(value_type = Option<String>)]
    definition_id: Option<Name>,
    /// 10 is the most urgent. Absent: the definition's.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10)]
    priority: Option<u8>,
    /// The session that the trace of an IMMEDIATE one is part of.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "ulid")]
    session_id: Option<SessionId>,
}

/// What sets a task off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TaskTrigger {
    /// Once, now.
    #[default]
    Immediate,
    /// Once, at `run_at`.
    Scheduled,
    /// Again and again.
    Loop,
}

/// When.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct TriggerArgs {
    /// Of SCHEDULED.
    #[serde(alias = "at")]
    #[schema(value_type = Option<String>, format = DateTime)]
    run_at: Option<Timestamp>,
    /// Of LOOP: seconds between firings.
    #[serde(alias = "interval", alias = "interval_seconds")]
    interval_sec: Option<u32>,
    /// Of LOOP, instead of an interval.
    #[serde(alias = "cron")]
    cron_expr: Option<String>,
    /// Of `cron_expr`. Default: UTC.
    timezone: Option<String>,
}

/// A task that was created.
#[derive(Debug, Serialize, ToSchema)]
struct TaskCreated {
    /// The id of its definition.
    #[schema(value_type = String)]
    task_id: Name,
    /// Null where it was triggered once and for all.
    status: Option<ScheduleState>,
    /// The trace of an IMMEDIATE one.
    #[schema(value_type = Option<String>, format = "ulid")]
    trace_id: Option<TraceId>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_run_time: Option<Timestamp>,
}

/// What came of a cancel.
#[derive(Debug, Serialize, ToSchema)]
struct TaskCancelled {
    status: &'static str,
    /// Traces that were cancelled with it.
    cancelled_instances: u64,
}

/// Create a task: a definition with a trigger
#[utoipa::path(
    post,
    path = "/tasks",
    tag = "compatibility",
    request_body = CreateTask,
    responses(
        (status = 200, body = TaskCreated),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn create_task(State(api): State<Api>, JsonBody { value: wanted, .. }: JsonBody<CreateTask>) -> Result<Json<TaskCreated>, Problem> {
    let template = wanted.definition_id.clone().or_else(|| api.settings.task_definition.clone());
    let template = template
        .ok_or_else(|| Problem::field(&codes::BAD_FIELDS, "/definition_id", "say which definition does the work, or start the tower with --task-definition"))?;
    let template = api.stores().definitions.find(&template).await?.ok_or_else(|| no_such_definition(&template))?;
    let immediate = wanted.trigger_type == TaskTrigger::Immediate;
    let session_id = wanted.session_id;
    if session_id.is_some() && !immediate {
        return Err(Problem::field(&codes::BAD_FIELDS, "/session_id", "only with trigger_type IMMEDIATE: what fires by itself has no session"));
    }
    let spec = spec_of(wanted, template)?;
    let id = Name::new(&format!("{PREFIX}{}", api.engine.ids().task()).to_ascii_lowercase()).map_err(|error| Problem::internal(&error))?;
    let definition = match api.engine.put_definition(&id, spec, Some(0)).await? {
        Put::Created(definition) | Put::Updated(definition) | Put::Unchanged(definition) => definition,
        Put::Stale { .. } => return Err(Problem::new(&codes::STALE_VERSION, format!("the id `{id}` was taken meanwhile: send it again"))),
    };
    let trace_id = if immediate {
        Some(begin(&api, StartTrace::of(definition.id, TriggerOptions { session_id, ..TriggerOptions::default() }), None).await?.trace_id)
    } else {
        None
    };
    let schedule = api.stores().schedules.find(&id).await?.map(ScheduleBody::from);
    let next_run_time = schedule.as_ref().and_then(|schedule| schedule.next_at);
    Ok(Json(TaskCreated { task_id: id, status: schedule.map(|schedule| schedule.state), trace_id, next_run_time }))
}

/// The definition that a task is: the one that does the work, with the task's content and times.
fn spec_of(wanted: CreateTask, template: Definition) -> Result<DefinitionSpec, Problem> {
    let CreateTask { user_id, content, trigger_type, trigger_args, priority, .. } = wanted;
    let TriggerArgs { run_at, interval_sec, cron_expr, timezone } = trigger_args;
    let wrong = |field: &str, what: &str| Problem::field(&codes::BAD_FIELDS, format!("/trigger_args{field}"), what.to_owned());
    let is_loop = trigger_type == TaskTrigger::Loop;
    match (trigger_type, run_at) {
        (TaskTrigger::Scheduled, None) => return Err(wrong("/run_at", "SCHEDULED needs it: when it is to run")),
        (TaskTrigger::Immediate | TaskTrigger::Loop, Some(_)) => return Err(wrong("/run_at", "only with trigger_type SCHEDULED")),
        _ => {}
    }
    if !is_loop && (interval_sec.is_some() || cron_expr.is_some() || timezone.is_some()) {
        return Err(wrong("", "interval_sec, cron_expr and timezone go with trigger_type LOOP"));
    }
    if is_loop && interval_sec.is_some() == cron_expr.is_some() {
        return Err(wrong("", "LOOP needs interval_sec or cron_expr, and not both"));
    }
    let content = JsonDocument::of(&std::collections::BTreeMap::from([("content", content)])).map_err(|error| Problem::internal(&error))?;
    let old = template.spec;
    Ok(DefinitionSpec {
        name: if old.name.is_empty() { template.id.to_string() } else { old.name.clone() },
        user_id,
        default_params: old.default_params.overlaid(&content),
        priority: priority.unwrap_or(old.priority),
        schedule_type: if is_loop { ScheduleType::Cron } else { ScheduleType::Once },
        run_at,
        cron_expr,
        interval_sec,
        timezone: timezone.unwrap_or_else(|| "UTC".to_owned()),
        loop_config: None,
        jitter_sec: 0,
        starts_at: None,
        ends_at: None,
        is_active: true,
        ..old
    })
}

/// Find a task
#[utoipa::path(
    get,
    path = "/tasks/{id}",
    tag = "compatibility",
    params(("id" = String, Path, description = "The id of its definition")),
    responses((status = 200, body = DefinitionBody), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn find_task(State(api): State<Api>, PathOf(id): PathOf<Name>) -> Result<Json<DefinitionBody>, Problem> {
    let definition = api.stores().definitions.find(&id).await?.ok_or_else(|| no_such_definition(&id))?;
    let schedule = api.stores().schedules.find(&id).await?;
    Ok(Json(DefinitionBody::from(definition).with(schedule)))
}

/// Pause a task: it does not fire
#[utoipa::path(
    post,
    path = "/tasks/{id}/pause",
    tag = "compatibility",
    params(("id" = String, Path, description = "The id of its definition")),
    request_body = Reason,
    responses(
        (status = 200, body = ScheduleBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn pause_task(State(api): State<Api>, PathOf(id): PathOf<Name>, reason: OptionalJson<Reason>) -> Result<Json<ScheduleBody>, Problem> {
    schedules::order(&api, &id, ScheduleWish::Pause, reason.value).await
}

/// Resume a task
#[utoipa::path(
    post,
    path = "/tasks/{id}/resume",
    tag = "compatibility",
    params(("id" = String, Path, description = "The id of its definition")),
    request_body = Reason,
    responses(
        (status = 200, body = ScheduleBody),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn resume_task(State(api): State<Api>, PathOf(id): PathOf<Name>, reason: OptionalJson<Reason>) -> Result<Json<ScheduleBody>, Problem> {
    schedules::order(&api, &id, ScheduleWish::Resume, reason.value).await
}

/// Cancel a task: it never fires again, and what runs of it ends
#[utoipa::path(
    post,
    path = "/tasks/{id}/cancel",
    tag = "compatibility",
    params(("id" = String, Path, description = "The id of its definition")),
    request_body = Reason,
    responses((status = 200, body = TaskCancelled), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn cancel_task(State(api): State<Api>, PathOf(id): PathOf<Name>, reason: OptionalJson<Reason>) -> Result<Json<TaskCancelled>, Problem> {
    let Reason { reason } = reason.value;
    crate::api::traces::check_reason(&reason)?;
    // The schedule first, so that nothing begins after the traces were looked for.
    match api.engine.order_schedule(&id, ScheduleWish::Cancel, CALLER, &reason).await {
        Ok(_) | Err(ScheduleError::NotScheduled(_) | ScheduleError::Ended { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let filter = TraceFilter { status: vec![TraceStatus::Pending, TraceStatus::Running], definition_id: Some(id), ..TraceFilter::default() };
    let mut cancelled_instances = 0;
    let mut after = None;
    loop {
        let page = api.stores().read.traces(&filter, &PageRequest { after, limit: PAGE_MAX }).await?;
        for trace in page.items {
            hold_or_cancel(&api, Control::Cancel, trace.trace_id, None, reason.clone()).await?;
            cancelled_instances += 1;
        }
        after = page.next;
        if after.is_none() {
            return Ok(Json(TaskCancelled { status: "cancelled", cancelled_instances }));
        }
    }
}

/// Trigger a task now, besides its schedule; also while that is paused
#[utoipa::path(
    post,
    path = "/tasks/{id}/trigger",
    tag = "compatibility",
    params(("id" = String, Path, description = "The id of its definition")),
    request_body = TriggerOptions,
    responses(
        (status = 200, body = super::TraceIdAlone),
        (status = 404, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
async fn trigger_task(
    State(api): State<Api>,
    PathOf(id): PathOf<Name>,
    OptionalJson { value: options, .. }: OptionalJson<TriggerOptions>,
) -> Result<(StatusCode, Json<super::TraceIdAlone>), Problem> {
    let triggered = begin(&api, StartTrace::of(id, options), None).await?;
    Ok((StatusCode::OK, Json(super::TraceIdAlone { trace_id: triggered.trace_id })))
}

/// List a task's instances, newest first, without an envelope
///
/// The cursor of the next page is the id of the last one on this.
#[utoipa::path(
    get,
    path = "/tasks/{id}/instances",
    tag = "compatibility",
    params(("id" = String, Path, description = "The id of its definition"), TraceQuery),
    responses((status = 200, body = Vec<TraceBody>), (status = 404, body = ProblemBody, content_type = "application/problem+json")),
)]
async fn list_instances(State(api): State<Api>, PathOf(id): PathOf<Name>, QueryOf(query): QueryOf<TraceQuery>) -> Result<Json<Vec<TraceBody>>, Problem> {
    api.stores().definitions.find(&id).await?.ok_or_else(|| no_such_definition(&id))?;
    Ok(Json(page_of(&api, query.of_definition(id)).await?.items))
}

/// List a user's tasks, by id, without an envelope
///
/// The cursor of the next page is the id of the last one on this.
#[utoipa::path(
    get,
    path = "/users/{user_id}/tasks",
    tag = "compatibility",
    params(("user_id" = String, Path, description = "The owner"), DefinitionQuery),
    responses((status = 200, body = Vec<DefinitionBody>)),
)]
async fn list_user_tasks(
    api: State<Api>,
    PathOf(user_id): PathOf<String>,
    QueryOf(query): QueryOf<DefinitionQuery>,
) -> Result<Json<Vec<DefinitionBody>>, Problem> {
    let Json(page) = list_definitions(api, QueryOf(query.of_user(user_id))).await?;
    Ok(Json(page.items))
}
