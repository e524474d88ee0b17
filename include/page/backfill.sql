-- name: known
-- The ledger's counts of a range of minutes: one row.
SELECT COUNT(*) AS known, COALESCE(SUM(raw_rows), 0) AS raw_rows, COALESCE(SUM(pending), 0) AS pending,
  COALESCE(SUM(state = 'held' AND pending = 0), 0) AS held, COALESCE(SUM(state = 'closed'), 0) AS closed
FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s;

-- name: seconds
-- The average time that the newest merged batches of a pipeline took, from opening to merge: one row.
SELECT AVG(TIMESTAMPDIFF(MICROSECOND, b.opened_at, b.merged_at)) / 1000000 AS seconds
FROM (
  SELECT opened_at, merged_at FROM etl.batches
  WHERE pipeline = %(pipeline)s AND state = 'merged' ORDER BY batch_id DESC LIMIT %(limit)s
) AS b;
