-- Every fact is what the contributions of its key add up to: none has other values, none is missing, none stands alone.
-- table: skeleton.events_hourly
-- remedy: {again}: which of its minutes is wrong, the fact does not say. A fact that is found where nothing is expected, and stays, has no event behind it: delete it by hand.

-- Where the slice of hours behind `after` ends; NULL for the last one.
SELECT MIN(ends.hour) AS upto
FROM (
  (SELECT hour FROM skeleton.events_by_minute WHERE %(after)s IS NULL OR hour > %(after)s
   ORDER BY hour LIMIT 1 OFFSET %(slice_rows)s)
  UNION ALL
  (SELECT hour FROM skeleton.events_hourly WHERE %(after)s IS NULL OR hour > %(after)s
   ORDER BY hour LIMIT 1 OFFSET %(slice_rows)s)
) AS ends;

SELECT
  MIN(d.minute) AS minute, MAX(d.last_minute) AS last_minute, d.hour, d.kind,
  SUM(d.expected_events) AS expected_events, SUM(d.found_events) AS found_events,
  SUM(d.expected_value_sum) AS expected_value_sum, SUM(d.found_value_sum) AS found_value_sum
FROM (
  SELECT
    MIN(minute) AS minute, MAX(minute) AS last_minute, hour, kind, SUM(event_count) AS expected_events,
    NULL AS found_events, SUM(value_sum) AS expected_value_sum, NULL AS found_value_sum
  FROM skeleton.events_by_minute
  WHERE (%(after)s IS NULL OR hour > %(after)s) AND (%(upto)s IS NULL OR hour <= %(upto)s)
  GROUP BY hour, kind
  UNION ALL
  SELECT NULL, NULL, hour, kind, NULL, events, NULL, value_sum
  FROM skeleton.events_hourly
  WHERE (%(after)s IS NULL OR hour > %(after)s) AND (%(upto)s IS NULL OR hour <= %(upto)s)
) AS d
GROUP BY d.hour, d.kind
HAVING NOT (SUM(d.expected_events) <=> SUM(d.found_events) AND SUM(d.expected_value_sum) <=> SUM(d.found_value_sum));
