//! Results that one task reads of others: its children's, its dependencies'.

use sqlx::PgConnection;
use tower_domain::id::TaskId;
use tower_domain::name::Key;
use tower_domain::split::ExistingChild;
use tower_domain::step::ResultPage;

use super::rows::{Bind, Columns, Id, Params};
use super::statements;
use crate::StoreError;
use crate::rows::nouns::{existing_child, task_result, task_result_columns};
use crate::rows::pages;

statements! {
    // Children of the round that the task is in.
    CHILD_RESULTS = concat!(
        "SELECT ", task_result_columns!(), " FROM tasks AS p JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index \
         WHERE p.id = $1 AND t.id > $2 ORDER BY t.id LIMIT $3"
    );
    DEPENDENCY_RESULTS = concat!(
        "SELECT ", task_result_columns!(), " FROM task_deps AS d JOIN tasks AS t ON t.id = d.depends_on \
         WHERE d.task_id = $1 AND d.depends_on > $2 ORDER BY d.depends_on LIMIT $3"
    );
    // 8 and above have ended.
    OPEN_DEPENDENCIES = "SELECT b.key FROM task_deps AS d JOIN tasks AS b ON b.id = d.depends_on \
         WHERE d.task_id = $1 AND b.state < 8 ORDER BY d.depends_on LIMIT $2";
    EXISTING_CHILDREN = "SELECT t.id, t.key, t.job_id, t.input_params FROM tasks AS p \
         JOIN tasks AS t ON t.parent_id = p.id AND t.round_index = p.round_index WHERE p.id = $1 ORDER BY t.id";
}

/// Results of a task's children, in the order in which they were split off.
pub(super) async fn of_children(conn: &mut PgConnection, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    page(conn, CHILD_RESULTS, task, after, limit).await
}

/// Results of the siblings that a task depends on, likewise.
pub(super) async fn of_dependencies(conn: &mut PgConnection, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    page(conn, DEPENDENCY_RESULTS, task, after, limit).await
}

/// Keys of the siblings that a task depends on and that have not ended.
pub(super) async fn open_dependencies(conn: &mut PgConnection, task: TaskId, limit: u32) -> Result<Vec<Key>, StoreError> {
    let mut params = Params::new();
    params.id(task).int(pages::results_limit(limit));
    let rows = sqlx::query_with(OPEN_DEPENDENCIES, params.into_list()).fetch_all(conn).await?;
    rows.iter().map(|row| Columns::of(row, "tasks").key()).collect()
}

async fn page(conn: &mut PgConnection, statement: &'static str, task: TaskId, after: Option<TaskId>, limit: u32) -> Result<ResultPage, StoreError> {
    let limit = pages::results_limit(limit);
    let mut params = Params::new();
    params.id(task).bound(after.map(Id::bytes).as_ref().map_or(&[], |id| id)).int(limit + 1);
    let rows = sqlx::query_with(statement, params.into_list()).fetch_all(conn).await?;
    let items = rows.iter().map(|row| task_result(&mut Columns::of(row, "tasks"))).collect::<Result<_, _>>()?;
    Ok(pages::results(items, limit))
}

/// What earlier steps of a task split off.
pub(super) async fn existing_children(conn: &mut PgConnection, task: TaskId) -> Result<Vec<ExistingChild>, StoreError> {
    let mut params = Params::new();
    params.id(task);
    let rows = sqlx::query_with(EXISTING_CHILDREN, params.into_list()).fetch_all(conn).await?;
    rows.iter().map(existing_child).collect()
}
