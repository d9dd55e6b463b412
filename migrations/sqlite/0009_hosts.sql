-- Who works on this database. Leases name hosts; this says what they are.
CREATE TABLE hosts (
    id         TEXT    NOT NULL PRIMARY KEY,
    version    TEXT    NOT NULL,
    -- Of its present life.
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    slots      INTEGER NOT NULL CHECK (slots >= 0),
    running    INTEGER NOT NULL CHECK (running >= 0),
    -- Whether it is to take no more work.
    draining   INTEGER NOT NULL CHECK (draining IN (0, 1)),
    left_at    INTEGER
) STRICT, WITHOUT ROWID;
