-- name: known
-- All alerts, locked: one row per pipeline and problem.
SELECT pipeline, problem, state, began_at, seen_at, told_at, found, remedy FROM etl.alerts
ORDER BY pipeline, problem FOR UPDATE;

-- name: keep
-- Adds or updates an alert.
INSERT INTO etl.alerts (pipeline, problem, state, began_at, seen_at, told_at, found, remedy)
VALUES (%(pipeline)s, %(problem)s, %(state)s, %(began_at)s, %(seen_at)s, %(told_at)s, %(found)s, %(remedy)s)
ON DUPLICATE KEY UPDATE state = VALUES(state), began_at = VALUES(began_at), seen_at = VALUES(seen_at),
  told_at = VALUES(told_at), found = VALUES(found), remedy = VALUES(remedy);
