-- What people put in. Instants are microseconds since the epoch; JSON is text that the domain has checked, and comes back byte for byte.
-- Texts are compared by their bytes (COLLATE "C"), as on every back end, whatever the language of the database. Flags are 0 or 1.

-- Where each definition stands now.
CREATE TABLE definitions (
    created_at bigint   NOT NULL,
    version    integer  NOT NULL CHECK (version >= 1),
    is_active  smallint NOT NULL CHECK (is_active IN (0, 1)),
    id         text     COLLATE "C" NOT NULL PRIMARY KEY,
    user_id    text     COLLATE "C" NOT NULL
);

-- DefinitionStore::list of one owner.
CREATE INDEX definitions_by_user ON definitions (user_id, id);

-- Every version that a definition ever had; never changed.
CREATE TABLE definition_versions (
    current_from  bigint  NOT NULL,
    version       integer NOT NULL CHECK (version >= 1),
    definition_id text    COLLATE "C" NOT NULL,
    role          text    NOT NULL,
    spec          text    NOT NULL,
    PRIMARY KEY (definition_id, version)
);

-- What was read from uploaded components. Their bytes are in the artifact store.
CREATE TABLE modules (
    created_at bigint NOT NULL,
    digest     bytea  NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    created_by text   NOT NULL,
    inspection text   NOT NULL
);

-- Movable names for modules.
CREATE TABLE module_tags (
    updated_at bigint NOT NULL,
    name       text   COLLATE "C" NOT NULL,
    tag        text   COLLATE "C" NOT NULL,
    digest     bytea  NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (name, tag)
);
