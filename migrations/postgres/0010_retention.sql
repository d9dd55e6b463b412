-- Traces that are kept no longer.

-- RetentionStore::retire: those that ended longest ago.
CREATE INDEX traces_by_end ON traces (finished_at) WHERE finished_at IS NOT NULL;

-- Traces whose own row is deleted, and of whose tasks and events there may be some left: a large one goes in many pieces.
CREATE TABLE retired (
    trace_id uuid NOT NULL PRIMARY KEY
);

-- The latest instant of a definition is remembered longer than its trace: then `trace_id` is NULL.
ALTER TABLE cron_fires ALTER COLUMN trace_id DROP NOT NULL;
