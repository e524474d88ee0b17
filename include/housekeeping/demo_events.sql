-- name: candidates
-- The next minutes that may have rows in the lake, each with the newest change that a poll saw: one row per minute.
SELECT minute, seen_changed_at FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s AND state <> 'closed'
  AND (raw_rows > 0 OR pending = 1)
ORDER BY minute LIMIT %(limit)s;

-- name: closed
-- Minutes that are closed for the removal of their events: one row per minute.
SELECT minute FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND state = 'closed' AND reason = %(removing)s;
