-- name: merged_minutes
-- Minutes that a merge has read: one row per minute.
SELECT minute FROM etl.minute_ledger FORCE INDEX (PRIMARY)
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s AND attempt IS NOT NULL;
