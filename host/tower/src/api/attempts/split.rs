//! Splitting a task into children.

use axum::Json;
use tower_domain::split::ChildRequest;
use tower_outside::desk::Attempt;
use tower_outside::wire::{SplitAnswer, SplitBody};

use super::Ours;
use crate::api::extract::JsonBody;
use crate::api::problem::{FieldProblem, Problem, ProblemBody, codes};

/// Split the task into children
///
/// All of them or none. They are staged: they come to be with the good end of the step, in one transaction; if it does not end well there
/// are none. The same key with the same content is the same child.
#[utoipa::path(
    post,
    path = "/attempts/{task_id}/split",
    tag = "attempts",
    params(("task_id" = String, Path, description = "The task that the token is for")),
    request_body = SplitBody,
    responses(
        (status = 200, body = SplitAnswer),
        (status = 401, body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn split_attempt(ours: Ours, JsonBody { value, .. }: JsonBody<SplitBody>) -> Result<Json<SplitAnswer>, Problem> {
    stage(&ours.attempt, value).await.map(Json)
}

/// Stages children.
pub(super) async fn stage(attempt: &Attempt, body: SplitBody) -> Result<SplitAnswer, Problem> {
    let children: Vec<ChildRequest> = body.children.into_iter().map(Into::into).collect();
    let keys: Vec<String> = children.iter().map(|child| child.key.clone()).collect();
    let staged = attempt.host().split(children).await.map_err(|trouble| Problem::new(&codes::HOST_TROUBLE, trouble.to_string()))?;
    match staged {
        Ok(task_ids) => Ok(SplitAnswer { task_ids }),
        Err(refused) => {
            let named = refused.key.as_ref().and_then(|key| keys.iter().position(|other| other.starts_with(key.as_str())));
            let message = format!("{}: {}", refused.reason, refused.message);
            let pointer = named.map_or_else(|| "/children".to_owned(), |index| format!("/children/{index}"));
            Err(Problem::new(&codes::SPLIT_REFUSED, refused.to_string()).with_errors(vec![FieldProblem { pointer, message }]))
        }
    }
}
