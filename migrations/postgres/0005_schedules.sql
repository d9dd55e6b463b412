-- Definitions that fire by themselves.

-- Where the schedule of each definition that has one stands.
CREATE TABLE schedules (
    -- Raised by every change.
    revision           bigint   NOT NULL CHECK (revision >= 1),
    -- What intervals are counted from.
    anchor             bigint   NOT NULL,
    -- The earliest instant that nothing was decided about; NULL: none, or the definition is switched off.
    next_at            bigint,
    last_at            bigint,
    -- When it waited last.
    waited_until       bigint,
    fired              bigint   NOT NULL CHECK (fired >= 0),
    missed             bigint   NOT NULL CHECK (missed >= 0),
    skipped            bigint   NOT NULL CHECK (skipped >= 0),
    updated_at         bigint   NOT NULL,
    last_trace_id      uuid,
    -- The trace whose end it waits for.
    waiting_trace_id   uuid,
    -- The version that it was put with.
    definition_version integer  NOT NULL CHECK (definition_version >= 1),
    -- 0 ACTIVE, 1 PAUSED, 2 COMPLETED, 3 CANCELLED
    state              smallint NOT NULL CHECK (state BETWEEN 0 AND 3),
    definition_id      text     COLLATE "C" NOT NULL PRIMARY KEY,
    CHECK (next_at IS NULL OR state = 0)
) WITH (fillfactor = 80);

-- ScheduleStore::due and ::ahead.
CREATE INDEX schedules_due ON schedules (next_at) WHERE next_at IS NOT NULL AND waiting_trace_id IS NULL;
-- Tx::release_schedules, ScheduleStore::ahead.
CREATE INDEX schedules_waiting ON schedules (waiting_trace_id) WHERE waiting_trace_id IS NOT NULL;

-- What fired: an instant of a definition at most once.
CREATE TABLE cron_fires (
    instant       bigint NOT NULL,
    trace_id      uuid   NOT NULL,
    definition_id text   COLLATE "C" NOT NULL,
    PRIMARY KEY (definition_id, instant)
);
