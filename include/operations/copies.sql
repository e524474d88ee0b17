-- name: backlog
-- Minutes that are due to be written into the lakehouse: one row.
SELECT COUNT(*) AS minutes, MIN(due.minute) AS oldest_minute, MIN(due.merged_at) AS merged_at,
  (
    SELECT GREATEST(created_at, COALESCE(written_at, created_at)) FROM etl.lakehouse_tables
    WHERE pipeline = %(pipeline)s
  ) AS written_at
FROM (
  SELECT minute, merged_at FROM etl.minute_ledger FORCE INDEX (lakehouse_minutes)
  WHERE pipeline = %(pipeline)s AND to_lakehouse = 1 ORDER BY minute LIMIT %(limit)s
) AS due;

-- name: hours
-- Numbers of hours that are due to be counted, wait, differ, and are due to be loaded: one row.
SELECT COALESCE(SUM(to_count = 1 AND waited_at IS NULL), 0) AS hours,
  COALESCE(SUM(to_count = 1 AND waited_at IS NOT NULL), 0) AS waiting,
  COALESCE(SUM(differs_since IS NOT NULL), 0) AS differing, MIN(differs_since) AS differs_since,
  COALESCE(SUM(to_load), 0) AS to_load,
  MIN(CASE WHEN to_load = 1 THEN counted_at END) AS counted_at, MAX(loaded_at) AS loaded_at
FROM etl.lakehouse_hours
WHERE pipeline = %(pipeline)s;
