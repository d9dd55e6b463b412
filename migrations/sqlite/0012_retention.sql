-- Traces that are kept no longer.

-- RetentionStore::retire: those that ended longest ago.
CREATE INDEX traces_by_end ON traces (finished_at) WHERE finished_at IS NOT NULL;

-- Traces whose own row is deleted, and of whose tasks and events there may be some left: a large one goes in many pieces.
CREATE TABLE retired (
    trace_id BLOB NOT NULL PRIMARY KEY CHECK (length(trace_id) = 16)
) STRICT, WITHOUT ROWID;

-- The latest instant of a definition is remembered longer than its trace: then `trace_id` is NULL.
CREATE TABLE cron_fires_anew (
    definition_id TEXT    NOT NULL,
    instant       INTEGER NOT NULL,
    trace_id      BLOB    CHECK (length(trace_id) = 16),
    PRIMARY KEY (definition_id, instant)
) STRICT, WITHOUT ROWID;
INSERT INTO cron_fires_anew SELECT definition_id, instant, trace_id FROM cron_fires;
DROP TABLE cron_fires;
ALTER TABLE cron_fires_anew RENAME TO cron_fires;
