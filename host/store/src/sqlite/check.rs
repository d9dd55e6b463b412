//! The queries behind [`crate::invariants`]: each answers ids of rows that break one, and what is odd about them.

use async_trait::async_trait;
use tower_domain::id::TaskId;

use super::SqliteStore;
use super::rows::Columns;
use crate::StoreError;
use crate::invariants::{Inspect, Invariant, ROWS_MAX};

/// A task's status as events have it, from its state.
macro_rules! status_of {
    ($state:literal) => {
        concat!(
            "CASE WHEN ",
            $state,
            " <= 4 THEN 0 WHEN ",
            $state,
            " <= 7 THEN 1 WHEN ",
            $state,
            " <= 9 THEN 2 WHEN ",
            $state,
            " <= 11 THEN 3 ELSE ",
            $state,
            " - 8 END"
        )
    };
}

/// Where in the queue a task belongs, from its state; NULL: not there.
const PLACE_OF: &str = "CASE WHEN t.state IN (0, 2) THEN 1 WHEN t.state = 4 THEN 0 WHEN t.state IN (5, 7) THEN 2 END";

#[async_trait]
impl Inspect for SqliteStore {
    async fn violations(&self, invariant: Invariant) -> Result<Vec<String>, StoreError> {
        let Some(query) = query(invariant.id) else {
            return Err(StoreError::inconsistent("invariants", format!("no query for {}", invariant.id)));
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{query} LIMIT {ROWS_MAX}"))).fetch_all(&mut *self.reader().await?).await?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row, "invariants");
                let id: Option<TaskId> = columns.opt_id()?;
                Ok(format!("{}: {}", id.map_or_else(String::new, |id| id.to_string()), columns.opt_text()?.unwrap_or_default()))
            })
            .collect()
    }
}

fn query(id: &str) -> Option<String> {
    let text = match id {
        "I01" => {
            "SELECT p.id, format('says %d/%d, has %d/%d', p.completed_children, p.succeeded_children, count(CASE WHEN c.state >= 8 THEN 1 END), \
                 count(CASE WHEN c.state IN (8, 9) THEN 1 END)) FROM tasks AS p \
             LEFT JOIN tasks AS c ON c.parent_id = p.id AND c.round_index = p.round_index GROUP BY p.id \
             HAVING p.completed_children <> count(CASE WHEN c.state >= 8 THEN 1 END) OR p.succeeded_children <> count(CASE WHEN c.state IN (8, 9) THEN 1 END)"
        }
        "I02" => {
            "SELECT p.id, format('says %d, has %d', p.split_count, count(c.id)) FROM tasks AS p LEFT JOIN tasks AS c ON c.parent_id = p.id \
             AND c.round_index = p.round_index GROUP BY p.id HAVING p.split_count <> count(c.id)"
        }
        "I03" => {
            "SELECT c.id, 'parent ' || hex(c.parent_id) FROM tasks AS c LEFT JOIN tasks AS p ON p.id = c.parent_id \
             WHERE c.parent_id IS NOT NULL AND (p.id IS NULL OR p.trace_id <> c.trace_id)"
        }
        "I04" => {
            "SELECT t.trace_id, format('%d roots', count(k.id)) FROM traces AS t LEFT JOIN tasks AS k ON k.trace_id = t.trace_id AND k.parent_id IS NULL \
             GROUP BY t.trace_id HAVING count(k.id) <> 1 OR max(k.id) <> t.root_task_id"
        }
        "I05" => {
            "SELECT c.id, format('layer %d, depth %d', c.layer, c.depth) FROM tasks AS c LEFT JOIN tasks AS p ON p.id = c.parent_id \
             WHERE c.depth <> coalesce(p.depth + 1, 0) OR c.layer <> coalesce(p.layer + 1, 0)"
        }
        "I06" => "SELECT task_id, format('event %d', seq) FROM events WHERE from_status >= 2 AND to_status <> from_status",
        "I07" => "SELECT task_id, format('%d events', count(*)) FROM events WHERE to_status >= 2 GROUP BY task_id HAVING count(*) > 1",
        "I08" => "SELECT min(task_id), event_id FROM events WHERE event_id IS NOT NULL GROUP BY event_id HAVING count(*) > 1",
        "I09" => {
            "SELECT task_id, format('event %d from %d after one to %d', seq, from_status, before) FROM ( \
                 SELECT task_id, seq, from_status, lag(to_status) OVER (PARTITION BY task_id ORDER BY seq) AS before FROM events WHERE to_status IS NOT NULL) \
             WHERE before IS NOT from_status"
        }
        "I10" => concat!(
            "SELECT t.id, format('state %d, last event to %d', t.state, e.to_status) FROM tasks AS t LEFT JOIN ( \
                 SELECT task_id, to_status, max(seq) FROM events WHERE to_status IS NOT NULL GROUP BY task_id) AS e ON e.task_id = t.id \
             WHERE e.to_status IS NOT ",
            status_of!("t.state")
        ),
        "I11" => {
            "SELECT t.id, format('state %d', t.state) FROM tasks AS t LEFT JOIN queue AS q ON q.task_id = t.id \
             WHERE t.state IN (5, 7) AND q.lease_until IS NULL"
        }
        "I12" => {
            "SELECT q.task_id, format('state %d, owner %s', t.state, q.owner) FROM queue AS q LEFT JOIN tasks AS t ON t.id = q.task_id \
             WHERE q.owner IS NOT NULL AND coalesce(t.state NOT IN (5, 7), 1)"
        }
        "I13" => {
            "SELECT id, format('created %d, started %d, finished %d', created_at, started_at, finished_at) FROM tasks \
             WHERE (finished_at IS NOT NULL) <> (state >= 8) OR finished_at < started_at OR started_at < created_at OR finished_at < created_at"
        }
        "I14" => "SELECT id, format('attempt %d of %d', attempt, max_retries + 1) FROM tasks WHERE attempt > max_retries + 1",
        "I15" => {
            "SELECT t.id, format('fence %d, %d claims', t.fence, coalesce(e.claims, 0)) FROM tasks AS t LEFT JOIN ( \
                 SELECT task_id, count(*) AS claims FROM events WHERE event_type = 0 AND event_id IS NULL GROUP BY task_id) AS e ON e.task_id = t.id \
             WHERE t.fence <> coalesce(e.claims, 0)"
        }
        "I16" => "SELECT min(trace_id), format('%s at %d', definition_id, instant) FROM cron_fires GROUP BY definition_id, instant HAVING count(*) > 1",
        "I17" => {
            "SELECT f.trace_id, format('%s at %d', f.definition_id, f.instant) FROM cron_fires AS f LEFT JOIN traces AS t ON t.trace_id = f.trace_id \
             WHERE t.definition_id IS NOT f.definition_id OR t.cron_trigger_time IS NOT f.instant \
             UNION ALL SELECT t.trace_id, format('%s at %d', t.definition_id, t.cron_trigger_time) FROM traces AS t \
                 LEFT JOIN cron_fires AS f ON f.definition_id = t.definition_id AND f.instant = t.cron_trigger_time \
                 WHERE t.cron_trigger_time IS NOT NULL AND f.trace_id IS NOT t.trace_id"
        }
        "I20" => {
            "SELECT d.task_id, 'on ' || hex(d.depends_on) FROM task_deps AS d LEFT JOIN tasks AS a ON a.id = d.task_id LEFT JOIN tasks AS b ON b.id = d.depends_on \
             WHERE a.id IS NULL OR b.id IS NULL OR a.trace_id <> b.trace_id OR a.parent_id IS NOT b.parent_id OR a.id = b.id"
        }
        "I21" => {
            "WITH RECURSIVE waits (task, dep) AS (SELECT task_id, depends_on FROM task_deps \
                 UNION SELECT waits.task, d.depends_on FROM waits CROSS JOIN task_deps AS d ON d.task_id = waits.dep) \
             SELECT task, 'waits for itself' FROM waits WHERE task = dep"
        }
        "I22" => {
            "WITH ends AS MATERIALIZED (SELECT task_id, min(seq) AS seq, to_status FROM events WHERE to_status >= 2 GROUP BY task_id), \
                 claims AS MATERIALIZED (SELECT task_id, min(seq) AS seq FROM events WHERE event_type = 0 AND event_id IS NULL GROUP BY task_id) \
             SELECT d.task_id, format('claimed at %d, dependency ended at %d', claims.seq, ends.seq) FROM task_deps AS d \
                 JOIN tasks AS t ON t.id = d.task_id JOIN claims ON claims.task_id = d.task_id LEFT JOIN ends ON ends.task_id = d.depends_on \
             WHERE ends.seq IS NULL OR ends.seq > claims.seq OR (t.run_on = 0 AND ends.to_status <> 2)"
        }
        "I24" => concat!(
            "SELECT k.id, format('trace %d, task state %d', t.status, k.state) FROM traces AS t JOIN tasks AS k ON k.trace_id = t.trace_id \
             WHERE (t.status >= 2 AND k.state < 8) OR (k.parent_id IS NULL AND k.state >= 8 AND t.status <> ",
            status_of!("k.state"),
            ") \
                 OR (k.parent_id IS NULL AND k.finished_at IS NOT t.finished_at)"
        ),
        "I26" => {
            "WITH ends AS MATERIALIZED (SELECT task_id, min(seq) AS seq FROM events WHERE to_status >= 2 GROUP BY task_id), \
                 begins AS MATERIALIZED (SELECT task_id, min(seq) AS seq FROM events GROUP BY task_id), \
                 folds AS MATERIALIZED (SELECT task_id, seq FROM events WHERE event_type = 0 AND event_id IS NULL AND payload ->> 'leg' = 'AGGREGATE') \
             SELECT folds.task_id, format('claimed at %d, child ended at %d', folds.seq, ends.seq) FROM folds JOIN tasks AS c ON c.parent_id = folds.task_id \
                 JOIN begins ON begins.task_id = c.id LEFT JOIN ends ON ends.task_id = c.id \
             WHERE begins.seq < folds.seq AND (ends.seq IS NULL OR ends.seq > folds.seq)"
        }
        "I27" => {
            "SELECT t.id, format('in round %d, %d rounds up to %d', t.round_index, count(r.round_index), max(r.round_index)) FROM tasks AS t \
                 LEFT JOIN rounds AS r ON r.task_id = t.id GROUP BY t.id \
             HAVING count(r.round_index) NOT IN (t.round_index, t.round_index + (t.state IN (8, 9))) AND t.parent_id IS NULL \
                 OR max(r.round_index) <> count(r.round_index) - 1 OR (t.parent_id IS NOT NULL AND count(r.round_index) > 0)"
        }
        "I28" => {
            "SELECT task_id, format('claimed at %d after event type %d', seq, before) FROM ( \
                 SELECT task_id, seq, event_type, lag(event_type) OVER (PARTITION BY task_id ORDER BY seq) AS before FROM events \
                 WHERE event_id IS NULL AND to_status IS NOT NULL) \
             WHERE event_type = 0 AND before IS NOT 5 AND before IS NOT 11"
        }
        "I36" => {
            "SELECT t.trace_id, format('last_seq %d, %d events up to %d', t.last_seq, count(e.seq), max(e.seq)) FROM traces AS t \
                 LEFT JOIN events AS e ON e.trace_id = t.trace_id GROUP BY t.trace_id \
             HAVING t.last_seq <> count(e.seq) OR t.last_seq <> coalesce(max(e.seq), 0) OR coalesce(min(e.seq), 1) <> 1"
        }
        "I37" => {
            return Some(format!(
                "SELECT t.id, format('state %d, place %d', t.state, q.place) FROM tasks AS t LEFT JOIN queue AS q ON q.task_id = t.id \
             WHERE ({PLACE_OF}) IS NOT q.place OR t.priority <> q.priority \
             UNION ALL SELECT q.task_id, 'no such task' FROM queue AS q LEFT JOIN tasks AS t ON t.id = q.task_id WHERE t.id IS NULL"
            ));
        }
        "I38" => {
            "SELECT t.trace_id, 'counted ' || json_array(coalesce(k.p, 0), coalesce(k.r, 0), coalesce(k.s, 0), coalesce(k.f, 0), coalesce(k.c, 0), coalesce(k.x, 0)) \
             FROM traces AS t LEFT JOIN (SELECT trace_id, sum(state <= 4) AS p, sum(state BETWEEN 5 AND 7) AS r, sum(state IN (8, 9)) AS s, \
                 sum(state IN (10, 11)) AS f, sum(state = 12) AS c, sum(state = 13) AS x FROM tasks GROUP BY trace_id) AS k ON k.trace_id = t.trace_id \
             WHERE (t.count_pending, t.count_running, t.count_success, t.count_failed, t.count_cancelled, t.count_skipped) IS NOT (k.p, k.r, k.s, k.f, k.c, k.x)"
        }
        "I39" => "SELECT min(id), key FROM tasks WHERE parent_id IS NOT NULL GROUP BY parent_id, round_index, key HAVING count(*) > 1",
        "I40" => {
            "SELECT t.id, format('says %d, has %d', t.open_deps, count(b.id)) FROM tasks AS t LEFT JOIN task_deps AS d ON d.task_id = t.id \
                 LEFT JOIN tasks AS b ON b.id = d.depends_on AND b.state < 8 WHERE t.state = 1 GROUP BY t.id HAVING t.open_deps <> count(b.id) OR t.open_deps = 0"
        }
        "I41" => "SELECT id, format('%d of %d ended', completed_children, split_count) FROM tasks WHERE state = 6 AND completed_children >= split_count",
        "I42" => {
            "SELECT a.task_id, format('attempt of fence %d, task at %d', a.fence, t.fence) FROM attempts AS a LEFT JOIN tasks AS t ON t.id = a.task_id \
             WHERE coalesce(a.fence > t.fence, 1)"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
