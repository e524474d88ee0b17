-- name: held_for_hour
-- Held minutes that wait for their hour or belong to the last day: one row per minute.
SELECT minute FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND state = 'held' AND pending = 0 AND (waiting = 1 OR minute > %(since)s);

-- name: reads
-- The counts of the newest read of each minute, and its outcome: one row per minute.
SELECT l.minute, l.state, l.waiting, l.pending, l.seen_changed_at <=> l.read_changed_at AS is_read_seen,
  l.seen_changed_at <=> h.changed_at AS is_held_seen, l.read_at, l.raw_rows, l.rejected_rows, h.attempt, h.rows_now,
  h.rejected_now, h.failing_checks, h.held_at > COALESCE(l.merged_at, TIMESTAMP('1000-01-01')) AS is_hold_newest,
  EXISTS (
    SELECT 1 FROM etl.releases AS r
    WHERE r.pipeline = l.pipeline AND r.minute = l.minute AND r.used_by_batch = l.batch_id
  ) AS is_released
FROM etl.minute_ledger AS l
LEFT JOIN etl.holds AS h ON h.pipeline = l.pipeline AND h.minute = l.minute
WHERE l.pipeline = %(pipeline)s AND l.minute >= %(start)s AND l.minute < %(end)s ORDER BY l.minute;

-- name: suspects
-- Minutes with so many rejected rows that their hour determines the verdict, and held minutes: one row per minute.
SELECT minute FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s
  AND (state = 'held' OR (state = 'merged' AND rejected_rows * 100 > raw_rows * %(percent)s));
