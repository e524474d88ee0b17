-- name: running
-- How far an import has come: one row, or none.
SELECT started_at, rows_written, rows_rejected FROM etl.imports
WHERE target = %(target)s AND source_key = %(source_key)s;

-- name: progress
-- How far an import has come, locked: one row, or none.
SELECT position, rows_written, rows_rejected, state, started_at FROM etl.imports
WHERE target = %(target)s AND source_key = %(source_key)s FOR UPDATE;

-- name: restart
-- Records that an import starts from the beginning.
INSERT INTO etl.imports (target, source_key, source_name, position)
VALUES (%(target)s, %(source_key)s, %(source_name)s, %(position)s)
ON DUPLICATE KEY UPDATE source_name = VALUES(source_name), position = VALUES(position), rows_written = 0,
  rows_rejected = 0, state = 'running', started_at = CURRENT_TIMESTAMP(6), updated_at = CURRENT_TIMESTAMP(6);

-- name: forget_rejected
-- Removes the rejected rows of a source.
DELETE FROM etl.rejected_events WHERE pipeline = %(pipeline)s AND origin = 'import' AND origin_key LIKE %(prefix)s;

-- name: update
-- Records how far an import has come.
UPDATE etl.imports
SET position = %(position)s, rows_written = %(rows_written)s, rows_rejected = %(rows_rejected)s, state = %(state)s,
  updated_at = CURRENT_TIMESTAMP(6)
WHERE target = %(target)s AND source_key = %(source_key)s;
