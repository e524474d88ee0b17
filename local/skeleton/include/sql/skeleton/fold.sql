-- Folds the contributions of one hour of create_time into one row per fact key, at the hour's first minute. Runs under
-- the pipeline's lock. No fact changes: sums of sums. Binds: hour, next_hour.

INSERT INTO skeleton.events_by_minute (minute, hour, kind, event_count, value_sum)
SELECT d.minute, d.hour, d.kind, d.event_count, d.value_sum
FROM (
  SELECT %(hour)s AS minute, c.hour, c.kind, SUM(c.event_count) AS event_count, SUM(c.value_sum) AS value_sum
  FROM skeleton.events_by_minute AS c
  WHERE c.minute >= %(hour)s AND c.minute < %(next_hour)s
  GROUP BY c.hour, c.kind
) AS d
ON DUPLICATE KEY UPDATE event_count = d.event_count, value_sum = d.value_sum;

DELETE FROM skeleton.events_by_minute WHERE minute > %(hour)s AND minute < %(next_hour)s;
