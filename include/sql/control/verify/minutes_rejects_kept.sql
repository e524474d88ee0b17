-- Each rejected row of a minute is kept, and none is kept for a minute that was never read.
-- table: etl.rejected_events
SELECT l.minute, COALESCE(l.rejected_rows, 0) AS expected_rows, COALESCE(r.kept, 0) AS found_rows
FROM etl.minute_ledger AS l
LEFT JOIN (
  SELECT minute, COUNT(*) AS kept
  FROM etl.rejected_events
  WHERE pipeline = %(pipeline)s AND origin = 'lake' AND minute >= %(start)s AND minute < %(end)s
  GROUP BY minute
) AS r ON r.minute = l.minute
WHERE l.pipeline = %(pipeline)s AND l.minute >= %(start)s AND l.minute < %(end)s
  AND COALESCE(l.rejected_rows, 0) <> COALESCE(r.kept, 0)
UNION ALL
SELECT r.minute, NULL, COUNT(*)
FROM etl.rejected_events AS r
WHERE r.pipeline = %(pipeline)s AND r.origin = 'lake' AND r.minute >= %(start)s AND r.minute < %(end)s
  AND NOT EXISTS (SELECT 1 FROM etl.minute_ledger AS l WHERE l.pipeline = r.pipeline AND l.minute = r.minute)
GROUP BY r.minute;
