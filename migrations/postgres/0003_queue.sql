-- Tasks that can be claimed, wait for their time, or are claimed. Narrow and short-lived: what has ended is not here.

-- Rows come, change twice and go: dead ones are cleared away early and at full speed, before claims have to walk over them.
CREATE TABLE queue (
    -- Order within a priority: smallest first.
    rank        bigint   NOT NULL CHECK (rank >= 0),
    due         bigint,
    lease_until bigint,
    task_id     uuid     NOT NULL PRIMARY KEY,
    -- 0 ready, 1 waits until `due`, 2 claimed by `owner`, 3 waits at `gate`
    place       smallint NOT NULL CHECK (place BETWEEN 0 AND 3),
    priority    smallint NOT NULL CHECK (priority BETWEEN 1 AND 10),
    owner       text     COLLATE "C",
    gate        text     COLLATE "C",
    CHECK ((place = 1) = (due IS NOT NULL)),
    CHECK ((place = 2) = (owner IS NOT NULL)),
    CHECK ((place = 2) = (lease_until IS NOT NULL)),
    CHECK ((place = 3) = (gate IS NOT NULL))
) WITH (
    fillfactor = 75,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1
);

-- Tx::ready and Tx::fair.
CREATE INDEX queue_ready ON queue (priority DESC, rank, task_id) WHERE place = 0;
-- Tx::due and Tx::next_due.
CREATE INDEX queue_due ON queue (due, task_id) WHERE place = 1;
-- Tx::claimed_by.
CREATE INDEX queue_claimed ON queue (owner, task_id) WHERE place = 2;
-- Tx::overdue.
CREATE INDEX queue_leases ON queue (lease_until, task_id) WHERE place = 2;
-- Tx::parked, and how many wait at a gate.
CREATE INDEX queue_parked ON queue (gate, priority DESC, rank, task_id) WHERE place = 3;

-- Gates that somebody has passed or waits at. `limits` of definitions say how many may. What is done at gates is done by one batch at a
-- time, whichever host's, under a lock of its own.
CREATE TABLE gates (
    -- When a limit of starts has forgotten all starts.
    full_at  bigint,
    -- When whoever waits is to be looked at.
    opens_at bigint,
    -- Tasks that have passed and not left.
    taken    bigint NOT NULL CHECK (taken >= 0),
    gate     text   COLLATE "C" NOT NULL PRIMARY KEY
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0
);

-- Tx::opening and Tx::next_due.
CREATE INDEX gates_opening ON gates (opens_at) WHERE opens_at IS NOT NULL;
