-- Sessions: a user's continuing work over several traces. Their files are in folders.
CREATE TABLE sessions (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    -- 0 ACTIVE, 1 IDLE, 2 ARCHIVED, 3 CLOSED
    status         INTEGER NOT NULL CHECK (status BETWEEN 0 AND 3),
    created_at     INTEGER NOT NULL,
    last_used_at   INTEGER NOT NULL,
    closed_at      INTEGER,
    -- What the workspace held when it was measured last, and may hold; NULL: what the host says.
    bytes          INTEGER NOT NULL CHECK (bytes >= 0),
    files          INTEGER NOT NULL CHECK (files >= 0),
    quota_bytes    INTEGER CHECK (quota_bytes >= 0),
    files_max      INTEGER CHECK (files_max >= 0),
    -- Whether its files are gone for good.
    purged         INTEGER NOT NULL CHECK (purged IN (0, 1)),
    user_id        TEXT    NOT NULL,
    sdk_session_id TEXT,
    -- An object; NULL: no labels.
    labels         TEXT,
    -- Of an archived one, digests of the pieces of its workspace: an array.
    archive        TEXT,
    CHECK ((closed_at IS NOT NULL) = (status = 3))
) STRICT, WITHOUT ROWID;

-- SessionStore::list of one user.
CREATE INDEX sessions_by_user ON sessions (user_id, id);
-- SessionStore::idle and ::archivable.
CREATE INDEX sessions_by_use ON sessions (status, last_used_at);
-- SessionStore::purgeable.
CREATE INDEX sessions_closed ON sessions (closed_at) WHERE status = 3 AND purged = 0;

ALTER TABLE traces ADD COLUMN session_id BLOB CHECK (length(session_id) = 16);
-- Reader::traces of one session; whether a session is in use.
CREATE INDEX traces_by_session ON traces (session_id, status, trace_id) WHERE session_id IS NOT NULL;
