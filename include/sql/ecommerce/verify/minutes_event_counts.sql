-- Each minute holds exactly as many operations as were counted, in the hours that event_hours says, and a minute that
-- was never read has none.
-- table: ecommerce.operations
SELECT
  d.minute, SUM(d.counted) AS expected_events, SUM(d.operation_rows) AS found_events,
  0 AS expected_misplaced, SUM(d.misplaced) AS found_misplaced
FROM (
  SELECT minute, COALESCE(counted_rows, 0) AS counted, 0 AS operation_rows, 0 AS misplaced
  FROM etl.minute_ledger
  WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s
  UNION ALL
  SELECT e.minute, 0, SUM(e.operation_rows), ABS(SUM(e.operation_rows) - SUM(e.hour_rows))
  FROM (
    SELECT minute, hour, COUNT(*) AS operation_rows, 0 AS hour_rows
    FROM ecommerce.operations
    WHERE minute >= %(start)s AND minute < %(end)s
    GROUP BY minute, hour
    UNION ALL
    SELECT minute, hour, 0, events FROM ecommerce.event_hours WHERE minute >= %(start)s AND minute < %(end)s
  ) AS e
  GROUP BY e.minute, e.hour
) AS d
GROUP BY d.minute
HAVING SUM(d.counted) <> SUM(d.operation_rows) OR SUM(d.misplaced) <> 0;
