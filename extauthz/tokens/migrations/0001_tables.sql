-- +goose Up
-- Times are microseconds since 1970, 0 where there is none. Lists and attributes
-- are JSON. The statements are understood by SQLite and PostgreSQL alike.

-- One row, updated first by every change: its lock puts changes in one order, and
-- its version numbers them.
CREATE TABLE gh_clock (
    id         BIGINT PRIMARY KEY,
    version    BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);
INSERT INTO gh_clock (id, version, changed_at) VALUES (1, 0, 0);

CREATE TABLE gh_tokens (
    id                 TEXT PRIMARY KEY,
    kind               TEXT NOT NULL,
    name               TEXT NOT NULL,
    issuer             TEXT NOT NULL,
    subject            TEXT NOT NULL,
    username           TEXT NOT NULL,
    tenant             TEXT NOT NULL,
    scopes             TEXT NOT NULL,
    roles              TEXT NOT NULL,
    attributes         TEXT NOT NULL,
    hash               TEXT NOT NULL,
    previous_hash      TEXT NOT NULL,
    previous_until     BIGINT NOT NULL,
    created_at         BIGINT NOT NULL,
    created_by_issuer  TEXT NOT NULL,
    created_by_subject TEXT NOT NULL,
    expires_at         BIGINT NOT NULL,
    last_used_at       BIGINT NOT NULL,
    revoked_at         BIGINT NOT NULL,
    revoked_by_issuer  TEXT NOT NULL,
    revoked_by_subject TEXT NOT NULL,
    version            BIGINT NOT NULL
);
CREATE INDEX gh_tokens_version ON gh_tokens (version);
CREATE INDEX gh_tokens_created ON gh_tokens (created_at, id);
CREATE INDEX gh_tokens_owner ON gh_tokens (issuer, subject, created_at);
CREATE INDEX gh_tokens_tenant ON gh_tokens (tenant, created_at);

CREATE TABLE gh_people (
    issuer              TEXT NOT NULL,
    subject             TEXT NOT NULL,
    realm               TEXT NOT NULL,
    username            TEXT NOT NULL,
    email               TEXT NOT NULL,
    tenant              TEXT NOT NULL,
    roles               TEXT NOT NULL,
    attributes          TEXT NOT NULL,
    granted_roles       TEXT NOT NULL,
    first_seen          BIGINT NOT NULL,
    last_seen           BIGINT NOT NULL,
    disabled_at         BIGINT NOT NULL,
    disabled_by_issuer  TEXT NOT NULL,
    disabled_by_subject TEXT NOT NULL,
    version             BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX gh_people_version ON gh_people (version);

-- Everything issued to the scope up to issued_before is refused. One row a scope.
CREATE TABLE gh_revocations (
    issuer     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    tenant     TEXT NOT NULL,
    token_id   TEXT NOT NULL,
    issued_before BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject, tenant, token_id)
);
CREATE INDEX gh_revocations_version ON gh_revocations (version);

-- Append-only.
CREATE TABLE gh_audit (
    version       BIGINT PRIMARY KEY,
    at            BIGINT NOT NULL,
    actor_issuer  TEXT NOT NULL,
    actor_subject TEXT NOT NULL,
    actor_token   TEXT NOT NULL,
    action        TEXT NOT NULL,
    target        TEXT NOT NULL,
    detail        TEXT NOT NULL
);

CREATE TABLE gh_nonces (
    peer       TEXT NOT NULL,
    nonce      TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (peer, nonce)
);
CREATE INDEX gh_nonces_expires ON gh_nonces (expires_at);
