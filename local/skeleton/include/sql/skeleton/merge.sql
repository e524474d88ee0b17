-- Publishes the planned minutes of a batch: runs inside the merge, under the pipeline's lock. Absolute values only.
-- Binds: batch_id, attempt, oldest_kept_batch. STRAIGHT_JOIN: from the few minutes or keys to the large table, by index.
-- What a joined DELETE empties has no alias: MariaDB would look for it in a default database, and there is none.

DELETE FROM skeleton.events_touched WHERE batch_id = %(batch_id)s;

-- Fact keys that lose or gain a contribution.
INSERT INTO skeleton.events_touched (batch_id, hour, kind)
SELECT %(batch_id)s, k.hour, k.kind
FROM (
  SELECT c.hour, c.kind
  FROM etl.batch_minutes AS m
  STRAIGHT_JOIN skeleton.events_by_minute AS c ON c.minute = m.minute
  WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
  UNION
  SELECT s.hour, s.kind
  FROM etl.batch_minutes AS m
  STRAIGHT_JOIN skeleton.events_staged AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
  WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
) AS k;

DELETE skeleton.events_by_minute
FROM etl.batch_minutes AS m
STRAIGHT_JOIN skeleton.events_by_minute ON events_by_minute.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO skeleton.events_by_minute (minute, hour, kind, event_count, value_sum)
SELECT s.minute, s.hour, s.kind, s.event_count, s.value_sum
FROM etl.batch_minutes AS m
STRAIGHT_JOIN skeleton.events_staged AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

-- Facts left empty.
DELETE skeleton.events_hourly
FROM skeleton.events_touched AS t
STRAIGHT_JOIN skeleton.events_hourly FORCE INDEX (PRIMARY)
  ON events_hourly.hour = t.hour AND events_hourly.kind = t.kind
WHERE t.batch_id = %(batch_id)s AND NOT EXISTS (
  SELECT 1 FROM skeleton.events_by_minute AS c WHERE c.hour = t.hour AND c.kind = t.kind
);

INSERT INTO skeleton.events_hourly (hour, kind, events, value_sum)
SELECT d.hour, d.kind, d.events, d.value_sum
FROM (
  SELECT t.hour, t.kind, SUM(c.event_count) AS events, SUM(c.value_sum) AS value_sum
  FROM skeleton.events_touched AS t
  STRAIGHT_JOIN skeleton.events_by_minute AS c ON c.hour = t.hour AND c.kind = t.kind
  WHERE t.batch_id = %(batch_id)s
  GROUP BY t.hour, t.kind
) AS d
ON DUPLICATE KEY UPDATE events = d.events, value_sum = d.value_sum;

-- check_warehouse has long read those of older batches.
DELETE FROM skeleton.events_touched WHERE batch_id < %(oldest_kept_batch)s LIMIT 10000;
