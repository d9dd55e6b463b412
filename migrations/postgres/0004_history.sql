-- What happened and what was ordered. Only ever added to.

-- Parent and part of the task that an event is about are the task's and are not repeated here.
CREATE TABLE events (
    seq         bigint   NOT NULL CHECK (seq >= 1),
    at          bigint   NOT NULL,
    trace_id    uuid     NOT NULL,
    task_id     uuid     NOT NULL,
    -- 0 STARTED, 1 PROGRESS, 2 COMPLETED, 3 FAILED, 4 CANCELLED, 5 QUEUED, 6 SPLIT, 7 WAITING, 8 RETRYING, 9 SKIPPED, 10 PAUSED,
    -- 11 RESUMED, 12 LOG, 13 PARTIAL_OUTPUT
    event_type  smallint NOT NULL CHECK (event_type BETWEEN 0 AND 13),
    from_status smallint CHECK (from_status BETWEEN 0 AND 5),
    to_status   smallint CHECK (to_status BETWEEN 0 AND 5),
    -- Only of those that came from outside.
    event_id    text     COLLATE "C",
    payload     text,
    PRIMARY KEY (trace_id, seq)
);

-- Tx::known_events; the same event is kept once.
CREATE UNIQUE INDEX events_outside ON events (event_id) WHERE event_id IS NOT NULL;
-- Reader::logs of a trace.
CREATE INDEX events_logs_by_trace ON events (trace_id, seq) WHERE event_type = 12;
-- Reader::logs of a task.
CREATE INDEX events_logs_by_task ON events (task_id, seq) WHERE event_type = 12;

-- Attempts that have ended.
CREATE TABLE attempts (
    fence         bigint   NOT NULL CHECK (fence >= 1),
    attempt       bigint   NOT NULL CHECK (attempt >= 0),
    started_at    bigint   NOT NULL,
    finished_at   bigint   NOT NULL,
    task_id       uuid     NOT NULL,
    leg           smallint NOT NULL CHECK (leg IN (0, 1)),
    result        text     NOT NULL,
    host          text     NOT NULL,
    error_code    text,
    error_message text,
    PRIMARY KEY (task_id, fence),
    CHECK ((error_code IS NULL) = (error_message IS NULL))
);

-- Orders, for audit: to a trace, to a subtree of it, or about the schedule of a definition.
CREATE TABLE control_events (
    created_at    bigint   NOT NULL,
    id            uuid     NOT NULL PRIMARY KEY,
    trace_id      uuid,
    -- The root of the subtree; NULL: the whole trace.
    task_id       uuid,
    -- 0 RUN, 1 PAUSE, 2 CANCEL, 3 RETRY
    action        smallint NOT NULL CHECK (action BETWEEN 0 AND 3),
    definition_id text     COLLATE "C",
    triggered_by  text     NOT NULL,
    reason        text     NOT NULL,
    CHECK ((trace_id IS NULL) <> (definition_id IS NULL)),
    CHECK (task_id IS NULL OR trace_id IS NOT NULL)
);

-- Reader::control_events and ScheduleStore::orders of a trace.
CREATE INDEX control_events_by_trace ON control_events (trace_id, id) WHERE trace_id IS NOT NULL;
-- ScheduleStore::orders of a definition.
CREATE INDEX control_events_by_definition ON control_events (definition_id, id) WHERE definition_id IS NOT NULL;

-- Callers' keys against doubles.
CREATE TABLE idempotency_keys (
    created_at   bigint NOT NULL,
    trace_id     uuid   NOT NULL,
    root_task_id uuid   NOT NULL,
    key          text   COLLATE "C" NOT NULL PRIMARY KEY,
    fingerprint  bytea  NOT NULL CHECK (length(fingerprint) = 32)
);

-- Tx::delete_keys: callers' keys that are too old to count, the oldest first.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
