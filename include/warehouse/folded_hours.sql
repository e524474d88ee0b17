-- name: folded_among
-- The hours among these that are folded: one row per hour.
SELECT hour FROM etl.folded_hours WHERE pipeline = %(pipeline)s AND hour IN (%(hours)s) ORDER BY hour;

-- name: touched
-- Folded hours that the minutes of a batch lie in, locked: one row per minute.
-- The lock waits for an hour that is being folded. It is taken by key, so it does not wait for other pipelines.
SELECT f.hour FROM etl.batch_minutes AS m
STRAIGHT_JOIN etl.folded_hours AS f FORCE INDEX (PRIMARY)
  ON f.pipeline = %(pipeline)s AND f.hour = m.minute - INTERVAL MINUTE(m.minute) MINUTE
WHERE m.batch_id = %(batch_id)s FOR UPDATE;

-- name: add_minute
-- Adds a minute to a batch.
INSERT INTO etl.batch_minutes (batch_id, minute, changed_at)
SELECT %s, d.minute, l.seen_changed_at
FROM (SELECT CAST(%s AS DATETIME) AS minute) AS d
LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %s AND l.minute = d.minute;

-- name: totals
-- How many minutes a batch has, and their rows as last read: one row.
SELECT COUNT(*), COALESCE(SUM(l.raw_rows), 0) FROM etl.batch_minutes AS m
LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute
WHERE m.batch_id = %(batch_id)s;

-- name: estimate
-- Records how many minutes a batch has, and how many rows are expected.
UPDATE etl.batches SET minutes = %(minutes)s, estimated_rows = GREATEST(estimated_rows, %(estimated_rows)s)
WHERE batch_id = %(batch_id)s;

-- name: to_unfold
-- Folded hours that the minutes of a batch lie in, with how many of them are planned: one row per hour.
SELECT f.hour, SUM(m.state = 'planned') FROM etl.batch_minutes AS m
JOIN etl.folded_hours AS f ON f.pipeline = %(pipeline)s AND f.hour = m.minute - INTERVAL MINUTE(m.minute) MINUTE
WHERE m.batch_id = %(batch_id)s GROUP BY f.hour;

-- name: skip
-- Leaves out the minutes of an hour.
UPDATE etl.batch_minutes SET state = 'skipped', reason = %(reason)s
WHERE batch_id = %(batch_id)s AND minute >= %(hour)s AND minute < %(next_hour)s AND state = 'planned';
