-- name: foldable
-- Hours in which several minutes have counted rows, and every minute is merged or closed and none is pending: one row per hour.
-- Folding an hour with one counted minute gains nothing. An hour merged within the last day may soon be read again.
SELECT h.hour
FROM (
  SELECT minute - INTERVAL MINUTE(minute) MINUTE AS hour, SUM(counted_rows > 0) AS counted_minutes,
    SUM(pending) AS pending_minutes, SUM(state NOT IN ('merged', 'closed')) AS other_minutes,
    MAX(merged_at) AS merged_at
  FROM etl.minute_ledger
  WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s GROUP BY hour
) AS h
LEFT JOIN etl.folded_hours AS f ON f.pipeline = %(pipeline)s AND f.hour = h.hour
WHERE f.hour IS NULL AND h.counted_minutes > 1 AND h.pending_minutes = 0 AND h.other_minutes = 0
  AND h.merged_at < CURRENT_TIMESTAMP(6) - INTERVAL 1 DAY
ORDER BY h.hour;

-- name: open_batches
-- Open batches of a pipeline, locked: one row per batch. The lock waits for a batch that is being opened.
SELECT batch_id FROM etl.batches FORCE INDEX (by_pipeline) WHERE pipeline = %(pipeline)s AND state = 'open' FOR UPDATE;

-- name: minute_in_batch
-- A minute of the hour that belongs to a batch: one row, or none.
SELECT minute FROM etl.batch_minutes
WHERE batch_id = %(batch_id)s AND minute >= %(hour)s AND minute < %(next_hour)s LIMIT 1;

-- name: contributed
-- The events of an hour in a fact, and how many rows lie beyond the hour's first minute: one row.
SELECT COALESCE(SUM(event_count), 0), COALESCE(SUM(minute <> %(hour)s), 0) FROM {{ fact.contributions }}
WHERE minute >= %(hour)s AND minute < %(next_hour)s;
