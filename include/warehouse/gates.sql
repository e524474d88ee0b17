-- name: checked
-- Records whether the gate after the merge of a batch has passed.
UPDATE etl.batches SET unchecked_since = CASE WHEN %(failed)s THEN CURRENT_TIMESTAMP(6) END
WHERE batch_id = %(batch_id)s;

-- name: make_pending
-- Makes the minutes of a merged batch pending again.
UPDATE etl.batch_minutes AS m FORCE INDEX (PRIMARY)
STRAIGHT_JOIN etl.minute_ledger AS l FORCE INDEX (PRIMARY) ON l.pipeline = %(pipeline)s AND l.minute = m.minute
SET l.read_changed_at = NULL, l.read_at = NULL, l.settled_before = NULL
WHERE m.batch_id = %(batch_id)s AND l.attempt = %(attempt)s;

-- name: pending_of
-- How many merged minutes of a batch are pending: one row.
SELECT COUNT(*) FROM etl.batch_minutes AS m
JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'merged' AND l.pending = 1;

-- name: keep_result
-- Keeps the result of a check.
INSERT INTO etl.check_results (batch_id, attempt, gate, check_name, severity, outcome, offending_rows, sample)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s);

-- name: plan_again
-- Plans the minutes of a batch that the gate of an earlier attempt left out.
UPDATE etl.batch_minutes SET state = 'planned', reason = NULL
WHERE batch_id = %(batch_id)s AND state IN ('held', 'skipped', 'superseded');

-- name: leave_out
-- Leaves out a minute of a batch, with the reason.
INSERT INTO etl.batch_minutes (batch_id, minute, state, reason) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE state = VALUES(state), reason = VALUES(reason);

-- name: newest_attempt
-- The newest attempt of a batch, and how many minutes it has counts for: one row, or none.
SELECT a.attempt, COUNT(c.minute) AS minutes FROM etl.attempts AS a
LEFT JOIN etl.staged_counts AS c ON c.attempt = a.attempt
WHERE a.batch_id = %(batch_id)s GROUP BY a.attempt ORDER BY a.attempt DESC LIMIT 1;
