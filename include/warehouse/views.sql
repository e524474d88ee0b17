-- name: keep_digest
-- Keeps which statement made a view, and what the server made of it.
INSERT INTO etl.view_definitions (view_name, statement_digest, stored_digest) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE statement_digest = VALUES(statement_digest), stored_digest = VALUES(stored_digest);
