-- Modules and large outputs, where no other place is named for them: what all hosts must reach.
CREATE TABLE blobs (
    digest     bytea  NOT NULL PRIMARY KEY CHECK (octet_length(digest) = 32),
    created_at bigint NOT NULL,
    bytes      bytea  NOT NULL
);
-- Taken as they are: what can be compressed has been, or is not worth it.
ALTER TABLE blobs ALTER COLUMN bytes SET STORAGE EXTERNAL;
