-- The contributions of a minute hold exactly its counted rows, and a minute that was never read has none.
-- table: recruitment.events_by_minute
SELECT l.minute, COALESCE(l.counted_rows, 0) AS expected_events, COALESCE(c.events, 0) AS found_events
FROM etl.minute_ledger AS l
LEFT JOIN (
  SELECT minute, SUM(event_count) AS events
  FROM recruitment.events_by_minute
  WHERE minute >= %(start)s AND minute < %(end)s
  GROUP BY minute
) AS c ON c.minute = l.minute
WHERE l.pipeline = %(pipeline)s AND l.minute >= %(start)s AND l.minute < %(end)s
  AND COALESCE(l.counted_rows, 0) <> COALESCE(c.events, 0)
UNION ALL
SELECT c.minute, NULL, SUM(c.event_count)
FROM recruitment.events_by_minute AS c
WHERE c.minute >= %(start)s AND c.minute < %(end)s
  AND NOT EXISTS (SELECT 1 FROM etl.minute_ledger AS l WHERE l.pipeline = %(pipeline)s AND l.minute = c.minute)
GROUP BY c.minute;
