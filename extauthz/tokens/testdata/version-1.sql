-- What a program of schema version 1 left behind: two tokens, one of them revoked, an API
-- key, two people, a revocation and the log of it. See TestMigrateFromEveryVersion.
UPDATE gh_clock SET version = 6, changed_at = 1764028800000006 WHERE id = 1;
INSERT INTO gh_tokens VALUES ('PUT5dtbfFLbeN58i', 'token', 'laptop', 'https://idp.example.com', 'alice', 'alice@example.com', 'acme', '["orders:read"]', '["user"]', '{"department":"sales"}', '457357a8c58664f3d7e354f36626b7ef64af87284cd0aee90fb28863ec76f677', '', 0, 1764028800000001, 'operator', 'uid:0', 0, 1764028860000000, 0, '', '', 1);
INSERT INTO gh_tokens VALUES ('vRhoACovdYTtOL6d', 'token', '', 'https://idp.example.com', 'alice', 'alice@example.com', 'acme', '[]', '[]', '{}', '29f81f72b9ca192d0ead616fed6266662569210dbd349a47bfa24fc522cdcc22', '', 0, 1764028800000002, 'operator', 'uid:0', 0, 0, 1764028800000004, 'operator', 'uid:0', 4);
INSERT INTO gh_tokens VALUES ('bV7DHfywF34hFxfT', 'api_key', 'batch', 'realm:machines', 'batch', 'batch', '', '[]', '["service"]', '{}', '3640db56ab8ab413ff0dab10220403f333b81d0d1b9c4dec9b764ad2e0924a0c', '', 0, 1764028800000003, 'operator', 'uid:0', 4102542245000000, 0, 0, '', '', 3);
INSERT INTO gh_people VALUES ('https://idp.example.com', 'alice', 'corp', 'alice@example.com', 'alice@example.com', 'acme', '["user"]', '{"email":"alice@example.com"}', '["helper"]', 1764028800000000, 1764028860000000, 0, '', '', 1);
INSERT INTO gh_people VALUES ('https://idp.example.com', 'mallory', '', '', '', '', '[]', '{}', '[]', 0, 0, 1764028800000005, 'operator', 'uid:0', 5);
INSERT INTO gh_revocations VALUES ('https://idp.example.com', '', '', 'jti-1', 1764028800000006, 0, 6);
INSERT INTO gh_nonces VALUES ('cluster', 'nonce-1', 4102542245000000);
INSERT INTO gh_audit VALUES (1, 1764028800000001, 'operator', 'uid:0', '', 'create', 'PUT5dtbfFLbeN58i', '{"name":"laptop"}');
INSERT INTO gh_audit VALUES (2, 1764028800000002, 'operator', 'uid:0', '', 'create', 'vRhoACovdYTtOL6d', '{}');
INSERT INTO gh_audit VALUES (3, 1764028800000003, 'operator', 'uid:0', '', 'create', 'bV7DHfywF34hFxfT', '{}');
INSERT INTO gh_audit VALUES (4, 1764028800000004, 'operator', 'uid:0', '', 'revoke', 'vRhoACovdYTtOL6d', '{}');
INSERT INTO gh_audit VALUES (5, 1764028800000005, 'operator', 'uid:0', '', 'disable', 'https://idp.example.com mallory', '{}');
INSERT INTO gh_audit VALUES (6, 1764028800000006, 'operator', 'uid:0', '', 'revoke_all', 'issuer "https://idp.example.com", jti "jti-1"', '{"before":1764028800000006}');
