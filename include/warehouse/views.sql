-- name: keep_digest
-- Records which statement created a view, and the definition that the server stored.
INSERT INTO etl.view_definitions (view_name, statement_digest, stored_digest) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE statement_digest = VALUES(statement_digest), stored_digest = VALUES(stored_digest);
