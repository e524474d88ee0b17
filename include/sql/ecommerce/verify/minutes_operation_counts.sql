-- Each minute has exactly as many operations as were counted, and a minute that was never read has none.
-- Days that housekeeping has dropped are not compared.
-- table: ecommerce.operations
SELECT d.minute, SUM(d.counted) AS expected_events, SUM(d.operation_rows) AS found_events
FROM (
  SELECT minute, COALESCE(counted_rows, 0) AS counted, 0 AS operation_rows
  FROM etl.minute_ledger
  WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s
    AND minute >= COALESCE((SELECT rows_kept_from FROM etl.pipelines WHERE pipeline = %(pipeline)s), minute)
  UNION ALL
  SELECT minute, 0, COUNT(*)
  FROM ecommerce.operations
  WHERE minute >= %(start)s AND minute < %(end)s
    AND minute >= COALESCE((SELECT rows_kept_from FROM etl.pipelines WHERE pipeline = %(pipeline)s), minute)
  GROUP BY minute
) AS d
GROUP BY d.minute
HAVING SUM(d.counted) <> SUM(d.operation_rows);
