//! Results that one task reads of others: its children's, its dependencies'.

use sqlx::SqliteConnection;
use tower_domain::id::TaskId;
use tower_domain::split::ExistingChild;
use tower_domain::step::{RESULT_PAGE_MAX, ResultPage};
use tower_domain::task::TaskResult;

use super::rows::{Columns, Params};
use super::statements;
use super::words::State;
use crate::StoreError;

/// Columns of [`task_result`], of `tasks AS t`.
macro_rules! task_result_columns {
    () => {
        "t.id, t.key, t.state, t.output, t.output_ref, t.error_code, t.error_message"
    };
}
pub(super) use task_result_columns;

statements! {
    // No id is smaller than an empty one: where the first page begins.
    // Children of the round that the task is in.
    CHILD_RESULTS = concat!(
        "SELECT ", task_result_columns!(), " FROM tasks AS p CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index \
         WHERE p.id = ?1 AND t.id > coalesce(?2, x'') ORDER BY t.id LIMIT ?3"
    );
    DEPENDENCY_RESULTS = concat!(
        "SELECT ", task_result_columns!(), " FROM task_deps AS d CROSS JOIN tasks AS t ON t.id = d.depends_on \
         WHERE d.task_id = ?1 AND d.depends_on > coalesce(?2, x'') ORDER BY d.depends_on LIMIT ?3"
    );
    EXISTING_CHILDREN = "SELECT t.id, t.key, t.job_id, t.input_params FROM tasks AS p \
         CROSS JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index WHERE p.id = ?1 ORDER BY t.id";
}

/// Results of a task's children, in the order in which they were split off.
pub(super) async fn of_children(conn: &mut SqliteConnection, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    page(conn, CHILD_RESULTS, task, after, limit).await
}

/// Results of the siblings that a task depends on, likewise.
pub(super) async fn of_dependencies(conn: &mut SqliteConnection, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    page(conn, DEPENDENCY_RESULTS, task, after, limit).await
}

async fn page(conn: &mut SqliteConnection, statement: &'static str, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    let limit = limit.clamp(1, RESULT_PAGE_MAX);
    let mut params = Params::new();
    params.id(task).opt_id(after).int(limit + 1);
    let rows = sqlx::query_with(statement, params.into_list()).fetch_all(conn).await?;
    let mut items: Vec<TaskResult> = rows.iter().map(|row| task_result(&mut Columns::of(row, "tasks"))).collect::<Result<_, _>>()?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|item| item.task_id);
    Ok(ResultPage { items, next })
}

/// What earlier steps of a task split off.
pub(super) async fn existing_children(conn: &mut SqliteConnection, task: TaskId) -> Result<Vec<ExistingChild>, StoreError> {
    let mut params = Params::new();
    params.id(task);
    let rows = sqlx::query_with(EXISTING_CHILDREN, params.into_list()).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "tasks");
            Ok(ExistingChild { id: columns.id()?, key: columns.key()?, definition: columns.name()?, params: columns.json()? })
        })
        .collect()
}

/// Reads [`task_result_columns`].
pub(super) fn task_result(columns: &mut Columns<'_>) -> Result<TaskResult, StoreError> {
    let (task_id, key) = (columns.id()?, columns.key()?);
    let State { status, .. } = columns.word()?;
    Ok(TaskResult { task_id, key, status, output: columns.output()?, error: columns.error()? })
}
