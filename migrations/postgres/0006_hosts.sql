-- Who works on this database. Leases name hosts; this says what they are.
CREATE TABLE hosts (
    -- Of its present life.
    started_at bigint   NOT NULL,
    seen_at    bigint   NOT NULL,
    left_at    bigint,
    slots      bigint   NOT NULL CHECK (slots >= 0),
    running    bigint   NOT NULL CHECK (running >= 0),
    -- Whether it is to take no more work.
    draining   smallint NOT NULL CHECK (draining IN (0, 1)),
    id         text     COLLATE "C" NOT NULL PRIMARY KEY,
    version    text     NOT NULL
) WITH (fillfactor = 50);
