-- What people put in. Instants are microseconds since the epoch, JSON is text that the domain has checked.

-- Marks the file as a tower's ("TOWR"), so that another program's database is never taken for one.
PRAGMA application_id = 1414485842;

-- Where each definition stands now.
CREATE TABLE definitions (
    id         TEXT    NOT NULL PRIMARY KEY,
    version    INTEGER NOT NULL CHECK (version >= 1),
    is_active  INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    created_at INTEGER NOT NULL,
    user_id    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- DefinitionStore::list of one owner.
CREATE INDEX definitions_by_user ON definitions (user_id, id);

-- Every version that a definition ever had; never changed.
CREATE TABLE definition_versions (
    definition_id TEXT    NOT NULL,
    version       INTEGER NOT NULL CHECK (version >= 1),
    current_from  INTEGER NOT NULL,
    role          TEXT    NOT NULL,
    spec          TEXT    NOT NULL,
    PRIMARY KEY (definition_id, version)
) STRICT;

-- What was read from uploaded components. Their bytes are in the artifact store.
CREATE TABLE modules (
    digest     BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    inspection TEXT    NOT NULL
) STRICT;

-- Movable names for modules.
CREATE TABLE module_tags (
    name       TEXT    NOT NULL,
    tag        TEXT    NOT NULL,
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (name, tag)
) STRICT, WITHOUT ROWID;
