-- +goose Up
-- Keys that sign identity tokens, shared by all replicas. A key signs from signs_from
-- until that of the next one of its algorithm. private is PKCS #8, sealed with the hash key
-- where the store has one.
CREATE TABLE gh_signing_keys (
    id         TEXT PRIMARY KEY,
    algorithm  TEXT NOT NULL,
    private    TEXT NOT NULL,
    signs_from BIGINT NOT NULL
);
