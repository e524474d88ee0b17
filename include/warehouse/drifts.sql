-- name: staged_fields
-- The counts of fields that an attempt staged: one row per minute.
SELECT minute, raw_rows, ignored_rows, field_counts FROM etl.staged_counts
WHERE attempt = %(attempt)s AND field_counts IS NOT NULL ORDER BY minute;

-- name: known
-- Drift on record: one row per drift.
SELECT kind, field, first_minute, COALESCE(last_minute, first_minute), usual, drift_id, accepted_by, ended_minute
FROM etl.drifts
WHERE pipeline = %(pipeline)s ORDER BY drift_id;

-- name: update
-- Records how far a drift extends, and whether it has ended.
UPDATE etl.drifts SET first_minute = %(first)s, last_minute = %(last)s, ended_minute = %(ended)s
WHERE drift_id = %(id)s;

-- name: accept
-- Accepts a drift.
UPDATE etl.drifts SET accepted_by = %(by)s, accepted_at = CURRENT_TIMESTAMP(6), reason = %(reason)s
WHERE drift_id = %(id)s;

-- name: listed
-- Drift on record with its status, the newest first: one row per drift.
SELECT drift_id, pipeline, kind, field, first_minute, minute_rows, description, found_at, accepted_by, accepted_at,
  reason, ended_minute,
  CASE
    WHEN ended_minute IS NOT NULL THEN 'ended'
    WHEN accepted_by IS NOT NULL THEN 'accepted'
    WHEN kind = 'appeared' AND %(policy)s <> 'hold' THEN 'reported'
    ELSE 'open'
  END AS status
FROM etl.drifts
WHERE pipeline = %(pipeline)s ORDER BY drift_id DESC LIMIT %(limit)s;

-- name: insert
-- Records a new drift.
INSERT INTO etl.drifts (
  pipeline, kind, field, first_minute, last_minute, ended_minute, minute_rows, usual, description
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: make_pending
-- Makes held minutes pending if a drift covers them and they failed the check of its kind.
UPDATE etl.minute_ledger AS l FORCE INDEX (by_state)
STRAIGHT_JOIN etl.holds AS h FORCE INDEX (PRIMARY) ON h.pipeline = l.pipeline AND h.minute = l.minute
SET l.held_changed_at = %(released)s
WHERE l.pipeline = %(pipeline)s AND l.state = 'held' AND l.minute >= %(start)s AND l.minute < %(end)s
  AND h.failing_checks LIKE %(check)s;

-- name: history
-- The counts of fields of merged reads: one row per minute.
SELECT f.minute, l.raw_rows, l.ignored_rows, f.field_counts FROM etl.minute_fields AS f
JOIN etl.minute_ledger AS l ON l.pipeline = f.pipeline AND l.minute = f.minute AND l.raw_rows IS NOT NULL
WHERE f.pipeline = %(pipeline)s AND f.minute >= %(start)s AND f.minute < %(end)s ORDER BY f.minute;
