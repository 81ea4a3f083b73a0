-- +goose Up
-- One row: what tells the hash key that the tokens' hashes were made with from any other.
CREATE TABLE gh_hash_key (
    id          BIGINT PRIMARY KEY,
    fingerprint TEXT NOT NULL
);
