-- name: page
-- The ledger of a range, newest minutes first: one row per minute.
SELECT minute, state, pending, reason, raw_rows, counted_rows, ignored_rows, rejected_rows, ignored_by_kind,
  newest_create_time, merged_at, batch_id, set_options
FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND {{ condition }} AND minute >= %(start)s AND minute < %(end)s
ORDER BY minute DESC LIMIT %(limit)s;
