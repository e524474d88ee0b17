-- A minute's contributions to {{ fact.table }} add up to exactly its counted rows, and a minute that was never read has
-- none.
-- A folded hour is stored at its first minute, and has the counted rows of all 60 minutes.
-- table: {{ fact.contributions }}
SELECT l.minute, COALESCE(l.counted_rows, 0) AS expected_events, COALESCE(c.events, 0) AS found_events
FROM etl.minute_ledger AS l
LEFT JOIN etl.folded_hours AS f ON f.pipeline = l.pipeline AND f.hour = l.minute - INTERVAL MINUTE(l.minute) MINUTE
LEFT JOIN (
  SELECT minute, SUM(event_count) AS events
  FROM {{ fact.contributions }}
  WHERE minute >= %(start)s AND minute < %(end)s
  GROUP BY minute
) AS c ON c.minute = l.minute
WHERE l.pipeline = %(pipeline)s AND l.minute >= %(start)s AND l.minute < %(end)s AND f.hour IS NULL
  AND COALESCE(l.counted_rows, 0) <> COALESCE(c.events, 0)
UNION ALL
SELECT c.minute, NULL, SUM(c.event_count)
FROM {{ fact.contributions }} AS c
LEFT JOIN etl.folded_hours AS f ON f.pipeline = %(pipeline)s AND f.hour = c.minute - INTERVAL MINUTE(c.minute) MINUTE
WHERE c.minute >= %(start)s AND c.minute < %(end)s AND f.hour IS NULL
  AND NOT EXISTS (SELECT 1 FROM etl.minute_ledger AS l WHERE l.pipeline = %(pipeline)s AND l.minute = c.minute)
GROUP BY c.minute
UNION ALL
SELECT h.hour, h.counted, h.contributed
FROM (
  SELECT
    f.hour,
    (SELECT COALESCE(SUM(l.counted_rows), 0) FROM etl.minute_ledger AS l
     WHERE l.pipeline = f.pipeline AND l.minute >= f.hour AND l.minute < f.hour + INTERVAL 1 HOUR) AS counted,
    (SELECT COALESCE(SUM(c.event_count), 0) FROM {{ fact.contributions }} AS c
     WHERE c.minute >= f.hour AND c.minute < f.hour + INTERVAL 1 HOUR) AS contributed
  FROM etl.folded_hours AS f
  WHERE f.pipeline = %(pipeline)s AND f.hour >= %(start)s AND f.hour < %(end)s
) AS h
WHERE h.counted <> h.contributed;
