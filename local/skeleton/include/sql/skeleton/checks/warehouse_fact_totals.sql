-- severity: fail
-- Each fact that the batch touched is the sum of its contributions, whichever read they are from: none has other values,
-- none is missing, none stands alone.
SELECT
  t.hour, t.kind, d.events AS contributed_events, f.events, d.value_sum AS contributed_value_sum, f.value_sum
FROM skeleton.events_touched AS t
LEFT JOIN (
  SELECT b.hour, b.kind, SUM(c.event_count) AS events, SUM(c.value_sum) AS value_sum
  FROM skeleton.events_touched AS b
  STRAIGHT_JOIN skeleton.events_by_minute AS c ON c.hour = b.hour AND c.kind = b.kind
  WHERE b.batch_id = %(batch_id)s
  GROUP BY b.hour, b.kind
) AS d ON d.hour = t.hour AND d.kind = t.kind
LEFT JOIN skeleton.events_hourly AS f ON f.hour = t.hour AND f.kind = t.kind
WHERE t.batch_id = %(batch_id)s AND NOT (f.events <=> d.events AND f.value_sum <=> d.value_sum);
