-- name: other_events
-- A merged minute without past events of the demo: one row, or none.
SELECT minute FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute < %(before)s AND raw_rows > 0 AND MOD(MINUTE(minute), 5) <> 0
LIMIT 1;
