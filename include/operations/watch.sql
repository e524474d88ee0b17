-- name: newest_held
-- The newest held minute, with the reason: one row, or none.
SELECT minute, reason FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND state = 'held' AND waiting = 0 ORDER BY minute DESC LIMIT 1;
