//! The queries behind [`crate::invariants`], in what SQLite and PostgreSQL have in common: each answers ids of rows that break one, and what
//! is odd about them.

use super::{Cells, Columns};
use crate::StoreError;
use crate::artifacts::BEFORE_DIGITS;
use crate::invariants::{Invariant, ROWS_MAX};
use tower_domain::id::TaskId;

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
const PLACE_OF: &str = "CASE WHEN t.state IN (0, 2) THEN 1 WHEN t.state = 4 THEN CASE WHEN t.parked IS NOT NULL THEN 3 WHEN t.lane IS NULL THEN 0 ELSE 4 END WHEN t.state IN (5, 7) THEN 2 END";

/// Whether traces are being deleted, some of whose rows are still there.
pub(crate) const RETIRING: &str = "SELECT count(*) FROM retired";

/// Rows of all traces but those; and the tables that they stand for.
const KEPT: &str = "WITH \
     kept_tasks AS (SELECT * FROM tasks AS w WHERE NOT EXISTS (SELECT 1 FROM retired AS r WHERE r.trace_id = w.trace_id)), \
     kept_events AS (SELECT * FROM events AS w WHERE NOT EXISTS (SELECT 1 FROM retired AS r WHERE r.trace_id = w.trace_id)), \
     going AS (SELECT k.id FROM tasks AS k JOIN retired AS r ON r.trace_id = k.trace_id), \
     kept_attempts AS (SELECT * FROM attempts AS w WHERE w.task_id NOT IN (SELECT id FROM going)), \
     kept_rounds AS (SELECT * FROM rounds AS w WHERE w.task_id NOT IN (SELECT id FROM going)), \
     kept_task_deps AS (SELECT * FROM task_deps AS w WHERE w.task_id NOT IN (SELECT id FROM going)) ";
const KEPT_TABLES: [&str; 5] = ["tasks", "events", "attempts", "rounds", "task_deps"];

/// The query for an invariant, for up to [`ROWS_MAX`] rows of an id and a text. While traces are being deleted, it is about the others.
pub(crate) fn query_for(invariant: Invariant, retiring: bool) -> Result<String, StoreError> {
    let mut query = query(invariant.id).ok_or_else(|| StoreError::inconsistent("invariants", format!("no query for {}", invariant.id)))?;
    if !retiring {
        return Ok(format!("{query} LIMIT {ROWS_MAX}"));
    }
    for table in KEPT_TABLES {
        for word in ["FROM", "JOIN"] {
            query = query.replace(&format!("{word} {table} "), &format!("{word} kept_{table} "));
        }
    }
    Ok(format!("{KEPT} SELECT * FROM ({query}) AS q LIMIT {ROWS_MAX}"))
}

/// Reads a row of such a query.
pub(crate) fn violation(row: &impl Cells) -> Result<String, StoreError> {
    let mut columns = Columns::of(row, "invariants");
    let id: Option<TaskId> = columns.opt_id()?;
    Ok(format!("{}: {}", id.map_or_else(String::new, |id| id.to_string()), columns.opt_text()?.unwrap_or_default()))
}

fn query(id: &str) -> Option<String> {
    let text = match id {
        "I01" => {
            "SELECT p.id, format('says %s/%s, has %s/%s', p.completed_children, p.succeeded_children, count(CASE WHEN c.state >= 8 THEN 1 END), \
                 count(CASE WHEN c.state IN (8, 9) THEN 1 END)) FROM tasks AS p \
             LEFT JOIN tasks AS c ON c.parent_id = p.id AND c.round_index = p.round_index GROUP BY p.id \
             HAVING p.completed_children <> count(CASE WHEN c.state >= 8 THEN 1 END) OR p.succeeded_children <> count(CASE WHEN c.state IN (8, 9) THEN 1 END)"
        }
        "I02" => {
            "SELECT p.id, format('says %s, has %s', p.split_count, count(c.id)) FROM tasks AS p LEFT JOIN tasks AS c ON c.parent_id = p.id \
             AND c.round_index = p.round_index GROUP BY p.id HAVING p.split_count <> count(c.id)"
        }
        "I03" => {
            "SELECT c.id, 'parent ' || hex(c.parent_id) FROM tasks AS c LEFT JOIN tasks AS p ON p.id = c.parent_id \
             WHERE c.parent_id IS NOT NULL AND (p.id IS NULL OR p.trace_id <> c.trace_id)"
        }
        "I04" => {
            "SELECT t.trace_id, format('%s roots', count(k.id)) FROM traces AS t LEFT JOIN tasks AS k ON k.trace_id = t.trace_id AND k.parent_id IS NULL \
             GROUP BY t.trace_id HAVING count(k.id) <> 1 OR count(CASE WHEN k.id = t.root_task_id THEN 1 END) <> 1"
        }
        "I05" => {
            "SELECT c.id, format('layer %s, depth %s', c.layer, c.depth) FROM tasks AS c LEFT JOIN tasks AS p ON p.id = c.parent_id \
             WHERE c.depth <> coalesce(p.depth + 1, 0) OR c.layer <> coalesce(p.layer + 1, 0)"
        }
        "I06" => "SELECT task_id, format('event %s', seq) FROM events WHERE from_status >= 2 AND to_status <> from_status",
        "I07" => "SELECT task_id, format('%s events', count(*)) FROM events WHERE to_status >= 2 GROUP BY task_id HAVING count(*) > 1",
        "I08" => {
            "SELECT e.task_id, e.event_id FROM events AS e JOIN ( \
                 SELECT event_id FROM events WHERE event_id IS NOT NULL GROUP BY event_id HAVING count(*) > 1) AS d ON d.event_id = e.event_id"
        }
        "I09" => {
            "SELECT task_id, format('event %s from %s after one to %s', seq, from_status, before) FROM ( \
                 SELECT task_id, seq, from_status, lag(to_status) OVER (PARTITION BY task_id ORDER BY seq) AS before FROM events WHERE to_status IS NOT NULL) AS e \
             WHERE before IS DISTINCT FROM from_status"
        }
        "I10" => concat!(
            "SELECT t.id, format('state %s, last event to %s', t.state, e.to_status) FROM tasks AS t LEFT JOIN ( \
                 SELECT task_id, to_status, row_number() OVER (PARTITION BY task_id ORDER BY seq DESC) AS number FROM events WHERE to_status IS NOT NULL) AS e \
             ON e.task_id = t.id AND e.number = 1 \
             WHERE e.to_status IS DISTINCT FROM ",
            status_of!("t.state")
        ),
        "I11" => {
            "SELECT t.id, format('state %s', t.state) FROM tasks AS t LEFT JOIN queue AS q ON q.task_id = t.id \
             WHERE t.state IN (5, 7) AND q.lease_until IS NULL"
        }
        "I12" => {
            "SELECT q.task_id, format('state %s, owner %s', t.state, q.owner) FROM queue AS q LEFT JOIN tasks AS t ON t.id = q.task_id \
             WHERE q.owner IS NOT NULL AND (t.state IS NULL OR t.state NOT IN (5, 7))"
        }
        "I13" => {
            "SELECT id, format('created %s, started %s, finished %s', created_at, started_at, finished_at) FROM tasks \
             WHERE (finished_at IS NOT NULL) <> (state >= 8) OR finished_at < started_at OR started_at < created_at OR finished_at < created_at"
        }
        "I14" => "SELECT id, format('attempt %s of %s', attempt, max_retries + 1) FROM tasks WHERE attempt > max_retries + 1",
        "I15" => {
            "SELECT t.id, format('fence %s, %s claims', t.fence, coalesce(e.claims, 0)) FROM tasks AS t LEFT JOIN ( \
                 SELECT task_id, count(*) AS claims FROM events WHERE event_type = 0 AND event_id IS NULL GROUP BY task_id) AS e ON e.task_id = t.id \
             WHERE t.fence <> coalesce(e.claims, 0)"
        }
        "I16" => {
            "SELECT f.trace_id, format('%s at %s', f.definition_id, f.instant) FROM cron_fires AS f JOIN ( \
                 SELECT definition_id, instant FROM cron_fires GROUP BY definition_id, instant HAVING count(*) > 1) AS d \
             ON d.definition_id = f.definition_id AND d.instant = f.instant"
        }
        "I17" => {
            "SELECT f.trace_id, format('%s at %s', f.definition_id, f.instant) FROM cron_fires AS f LEFT JOIN traces AS t ON t.trace_id = f.trace_id \
             WHERE f.trace_id IS NOT NULL AND (t.definition_id IS DISTINCT FROM f.definition_id OR t.cron_trigger_time IS DISTINCT FROM f.instant) \
             UNION ALL SELECT t.trace_id, format('%s at %s', t.definition_id, t.cron_trigger_time) FROM traces AS t \
                 LEFT JOIN cron_fires AS f ON f.definition_id = t.definition_id AND f.instant = t.cron_trigger_time \
                 WHERE t.cron_trigger_time IS NOT NULL AND f.trace_id IS DISTINCT FROM t.trace_id"
        }
        "I20" => {
            "SELECT d.task_id, 'on ' || hex(d.depends_on) FROM task_deps AS d LEFT JOIN tasks AS a ON a.id = d.task_id LEFT JOIN tasks AS b ON b.id = d.depends_on \
             WHERE a.id IS NULL OR b.id IS NULL OR a.trace_id <> b.trace_id OR a.parent_id IS DISTINCT FROM b.parent_id OR a.id = b.id"
        }
        "I21" => {
            "WITH RECURSIVE waits (task, dep) AS (SELECT task_id, depends_on FROM task_deps \
                 UNION SELECT waits.task, d.depends_on FROM waits JOIN task_deps AS d ON d.task_id = waits.dep) \
             SELECT task, 'waits for itself' FROM waits WHERE task = dep"
        }
        "I22" => {
            "WITH ends AS MATERIALIZED (SELECT task_id, min(seq) AS seq, min(to_status) AS to_status FROM events WHERE to_status >= 2 GROUP BY task_id), \
                 claims AS MATERIALIZED (SELECT task_id, min(seq) AS seq FROM events WHERE event_type = 0 AND event_id IS NULL GROUP BY task_id) \
             SELECT d.task_id, format('claimed at %s, dependency ended at %s', claims.seq, ends.seq) FROM task_deps AS d \
                 JOIN tasks AS t ON t.id = d.task_id JOIN claims ON claims.task_id = d.task_id LEFT JOIN ends ON ends.task_id = d.depends_on \
             WHERE ends.seq IS NULL OR ends.seq > claims.seq OR (t.run_on = 0 AND ends.to_status <> 2)"
        }
        "I24" => concat!(
            "SELECT k.id, format('trace %s, task state %s', t.status, k.state) FROM traces AS t JOIN tasks AS k ON k.trace_id = t.trace_id \
             WHERE (t.status >= 2 AND k.state < 8) OR (k.parent_id IS NULL AND k.state >= 8 AND t.status <> ",
            status_of!("k.state"),
            ") \
                 OR (k.parent_id IS NULL AND k.finished_at IS DISTINCT FROM t.finished_at)"
        ),
        "I26" => {
            "WITH ends AS MATERIALIZED (SELECT task_id, min(seq) AS seq FROM events WHERE to_status >= 2 GROUP BY task_id), \
                 begins AS MATERIALIZED (SELECT task_id, min(seq) AS seq FROM events GROUP BY task_id), \
                 folds AS MATERIALIZED (SELECT task_id, seq FROM events WHERE event_type = 0 AND event_id IS NULL AND payload ->> 'leg' = 'AGGREGATE') \
             SELECT folds.task_id, format('claimed at %s, child ended at %s', folds.seq, ends.seq) FROM folds JOIN tasks AS c ON c.parent_id = folds.task_id \
                 JOIN begins ON begins.task_id = c.id LEFT JOIN ends ON ends.task_id = c.id \
             WHERE begins.seq < folds.seq AND (ends.seq IS NULL OR ends.seq > folds.seq)"
        }
        "I27" => {
            "SELECT t.id, format('in round %s, %s rounds up to %s', t.round_index, count(r.round_index), max(r.round_index)) FROM tasks AS t \
                 LEFT JOIN rounds AS r ON r.task_id = t.id GROUP BY t.id \
             HAVING count(r.round_index) NOT IN (t.round_index, t.round_index + CASE WHEN t.state IN (8, 9) THEN 1 ELSE 0 END) AND t.parent_id IS NULL \
                 OR max(r.round_index) <> count(r.round_index) - 1 OR (t.parent_id IS NOT NULL AND count(r.round_index) > 0)"
        }
        "I28" => {
            "SELECT task_id, format('claimed at %s after event type %s', seq, before) FROM ( \
                 SELECT task_id, seq, event_type, lag(event_type) OVER (PARTITION BY task_id ORDER BY seq) AS before FROM events \
                 WHERE event_id IS NULL AND to_status IS NOT NULL) AS e \
             WHERE event_type = 0 AND before IS DISTINCT FROM 5 AND before IS DISTINCT FROM 11"
        }
        "I36" => {
            "SELECT t.trace_id, format('last_seq %s, %s events up to %s', t.last_seq, count(e.seq), max(e.seq)) FROM traces AS t \
                 LEFT JOIN events AS e ON e.trace_id = t.trace_id GROUP BY t.trace_id \
             HAVING t.last_seq <> count(e.seq) OR t.last_seq <> coalesce(max(e.seq), 0) OR coalesce(min(e.seq), 1) <> 1"
        }
        "I37" => {
            return Some(format!(
                "SELECT t.id, format('state %s, place %s', t.state, q.place) FROM tasks AS t LEFT JOIN queue AS q ON q.task_id = t.id \
             WHERE ({PLACE_OF}) IS DISTINCT FROM q.place OR t.priority <> q.priority \
             UNION ALL SELECT q.task_id, 'no such task' FROM queue AS q LEFT JOIN tasks AS t ON t.id = q.task_id WHERE t.id IS NULL"
            ));
        }
        "I38" => {
            "SELECT t.trace_id, format('counted %s, %s, %s, %s, %s, %s', k.p, k.r, k.s, k.f, k.c, k.x) \
             FROM traces AS t LEFT JOIN (SELECT trace_id, count(CASE WHEN state <= 4 THEN 1 END) AS p, count(CASE WHEN state BETWEEN 5 AND 7 THEN 1 END) AS r, count(CASE WHEN state IN (8, 9) THEN 1 END) AS s, \
                 count(CASE WHEN state IN (10, 11) THEN 1 END) AS f, count(CASE WHEN state = 12 THEN 1 END) AS c, count(CASE WHEN state = 13 THEN 1 END) AS x FROM tasks GROUP BY trace_id) AS k ON k.trace_id = t.trace_id \
             WHERE (t.count_pending, t.count_running, t.count_success, t.count_failed, t.count_cancelled, t.count_skipped) IS DISTINCT FROM (k.p, k.r, k.s, k.f, k.c, k.x)"
        }
        "I39" => {
            "SELECT t.id, t.key FROM tasks AS t JOIN ( \
                 SELECT parent_id, round_index, key FROM tasks WHERE parent_id IS NOT NULL GROUP BY parent_id, round_index, key HAVING count(*) > 1) AS d \
             ON d.parent_id = t.parent_id AND d.round_index = t.round_index AND d.key = t.key"
        }
        "I40" => {
            "SELECT t.id, format('says %s, has %s', t.open_deps, count(b.id)) FROM tasks AS t LEFT JOIN task_deps AS d ON d.task_id = t.id \
                 LEFT JOIN tasks AS b ON b.id = d.depends_on AND b.state < 8 WHERE t.state = 1 GROUP BY t.id HAVING t.open_deps <> count(b.id) OR t.open_deps = 0"
        }
        "I41" => "SELECT id, format('%s of %s ended', completed_children, split_count) FROM tasks WHERE state = 6 AND completed_children >= split_count",
        "I42" => {
            "SELECT a.task_id, format('attempt of fence %s, task at %s', a.fence, t.fence) FROM attempts AS a LEFT JOIN tasks AS t ON t.id = a.task_id \
             WHERE t.fence IS NULL OR a.fence > t.fence"
        }
        "I43" => {
            "SELECT t.id, format('state %s, gate %s of %s, waits at %s', t.state, t.parked, t.gates, q.gate) FROM tasks AS t LEFT JOIN queue AS q ON q.task_id = t.id \
             WHERE t.parked IS NOT NULL AND (t.state <> 4 OR q.gate IS DISTINCT FROM t.gates ->> t.parked)"
        }
        "I44" => {
            "SELECT NULL, format('%s says %s, has %s', gate, sum(said), sum(has)) FROM (SELECT gate, taken AS said, 0 AS has FROM gates \
                 UNION ALL SELECT k.value, 0, 1 FROM tasks AS t CROSS JOIN json_each(t.gates) AS k WHERE t.state IN (4, 5, 7) AND t.parked IS NULL) AS u \
             GROUP BY gate HAVING sum(said) <> sum(has)"
        }
        "I45" => {
            "SELECT q.task_id, q.gate FROM queue AS q LEFT JOIN gates AS g ON g.gate = q.gate \
             WHERE q.place = 3 AND g.opens_at IS NULL AND (coalesce(g.taken, 0) = 0 OR q.gate LIKE 'rate/%')"
        }
        "I46" => {
            "SELECT q.task_id, format('place %s, lane %s, queued in %s', q.place, t.lane, q.lane) FROM queue AS q JOIN tasks AS t ON t.id = q.task_id \
             WHERE q.lane IS DISTINCT FROM CASE WHEN q.place = 4 THEN t.lane END"
        }
        "I47" => {
            "SELECT a.trace_id, 'artifact ' || lower(hex(a.digest)) FROM artifacts AS a LEFT JOIN traces AS t ON t.trace_id = a.trace_id \
                 LEFT JOIN retired AS r ON r.trace_id = a.trace_id WHERE a.trace_id IS NOT NULL AND t.trace_id IS NULL AND r.trace_id IS NULL"
        }
        "I48" => {
            return Some(format!(
                "SELECT k.id, 'output ' || k.output_ref FROM artifacts AS a JOIN tasks AS k ON k.output_ref = '{BEFORE_DIGITS}' || lower(hex(a.digest)) \
                     WHERE a.trace_id IS NULL \
                 UNION ALL SELECT k.id, 'carried ' || k.carried_ref FROM artifacts AS a \
                     JOIN tasks AS k ON k.carried_ref = '{BEFORE_DIGITS}' || lower(hex(a.digest)) WHERE a.trace_id IS NULL \
                 UNION ALL SELECT r.task_id, 'round ' || r.output_ref FROM artifacts AS a \
                     JOIN rounds AS r ON r.output_ref = '{BEFORE_DIGITS}' || lower(hex(a.digest)) WHERE a.trace_id IS NULL"
            ));
        }
        _ => return None,
    };
    Some(text.to_owned())
}
