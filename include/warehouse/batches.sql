{% macro overdue() %}
b.pipeline = %(pipeline)s AND b.state = 'open'
  AND b.opened_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND
  AND NOT EXISTS (
    SELECT 1 FROM etl.attempts AS a
    WHERE a.batch_id = b.batch_id AND a.started_at >= CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND
  )
{%- endmacro %}

-- name: overdue
-- Open batches that were neither opened nor tried again within `age`: one row per batch.
SELECT b.batch_id FROM etl.batches AS b
WHERE {{ overdue() }}
ORDER BY b.batch_id;

-- name: overdue_one
-- The batch, if it is overdue: one row, or none.
SELECT b.batch_id FROM etl.batches AS b
WHERE {{ overdue() }} AND b.batch_id = %(batch_id)s;

-- name: minutes
-- The minutes of a batch with the change that each covers: one row per minute.
SELECT minute, changed_at FROM etl.batch_minutes WHERE batch_id = %(batch_id)s ORDER BY minute;

-- name: merged
-- What a merged batch published: one row, or none if it was not merged.
SELECT b.batch_id, b.pipeline, b.kind, b.merged_attempt AS attempt, b.merged_at, b.merged_minutes AS minutes,
  m.start, m.end, b.raw_rows, b.counted_rows, b.ignored_rows, b.rejected_rows
FROM etl.batches AS b
JOIN (
  SELECT MIN(minute) AS start, MAX(minute) + INTERVAL 1 MINUTE AS end FROM etl.batch_minutes
  WHERE batch_id = %(batch_id)s AND state = 'merged'
) AS m
WHERE b.batch_id = %(batch_id)s AND b.state = 'merged';

-- name: open_batch
-- Records a new batch.
INSERT INTO etl.batches (
  pipeline, kind, dag_id, run_id, tick, lake_clock, options, allow_shrink, is_delta, split_size, estimated_rows, minutes
) VALUES (
  %(pipeline)s, %(kind)s, %(dag_id)s, %(run_id)s, %(tick)s, %(lake_clock)s, %(options)s, %(allow_shrink)s, %(is_delta)s,
  %(split_size)s, %(estimated_rows)s, %(minutes)s
);

-- name: completed_attempt
-- The newest attempt of a batch that has counts of every minute: one row, or none.
SELECT a.attempt FROM etl.attempts AS a
WHERE a.batch_id = %(batch_id)s
  AND NOT EXISTS (
    SELECT 1 FROM etl.batch_minutes AS m
    LEFT JOIN etl.staged_counts AS c ON c.attempt = a.attempt AND c.minute = m.minute
    WHERE m.batch_id = a.batch_id AND c.minute IS NULL
  )
ORDER BY a.attempt DESC LIMIT 1;

-- name: newest_delta
-- The newest delta batch of a pipeline, of suspects or an ordinary one: one row.
SELECT MAX(batch_id) FROM etl.batches FORCE INDEX (by_split)
WHERE pipeline = %(pipeline)s AND is_delta = 1 AND split_size {{ "IS NOT NULL" if suspects else "IS NULL" }};

-- name: open_of_other_runs
-- Open delta batches of the other runs of a DAG: one row per batch.
SELECT batch_id FROM etl.batches
WHERE pipeline = %(pipeline)s AND state = 'open' AND is_delta = 1 AND dag_id = %(dag_id)s AND run_id <> %(run_id)s
ORDER BY batch_id;

-- name: open_of_run
-- Open batches of a run: one row per batch.
SELECT batch_id FROM etl.batches
WHERE pipeline = %(pipeline)s AND state = 'open' AND dag_id = %(dag_id)s AND run_id = %(run_id)s
ORDER BY batch_id;

-- name: close
-- Closes an open batch as failed, and appends `why` to its reason.
UPDATE etl.batches SET state = 'failed', reason = LEFT(CONCAT_WS('; ', reason, %(why)s), 500)
WHERE batch_id = %(batch_id)s AND state = 'open';

-- name: end_of
-- How a batch ended: one row.
SELECT b.run_id, b.is_delta, b.minutes, b.merge_tries, b.reason, b.opened_at, b.lake_clock,
  (SELECT COUNT(*) FROM etl.attempts AS a WHERE a.batch_id = b.batch_id) AS attempts,
  (SELECT MIN(m.minute) FROM etl.batch_minutes AS m WHERE m.batch_id = b.batch_id) AS minute,
  EXISTS (
    SELECT 1 FROM etl.check_results AS r
    WHERE r.batch_id = b.batch_id AND r.gate = 'staging'
      AND r.attempt = (SELECT MAX(a.attempt) FROM etl.attempts AS a WHERE a.batch_id = b.batch_id)
  ) AS gate_ran
FROM etl.batches AS b
WHERE b.batch_id = %(batch_id)s;

-- name: still_pending
-- The pending minutes of a batch, with the change that each covers: one row per minute.
SELECT m.minute, m.changed_at FROM etl.batch_minutes AS m
JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND l.pending = 1;

-- name: split
-- Limits the next batches that read the minutes of this batch to `size` minutes.
UPDATE etl.batch_minutes AS m FORCE INDEX (PRIMARY)
STRAIGHT_JOIN etl.minute_ledger AS l FORCE INDEX (PRIMARY) ON l.pipeline = %(pipeline)s AND l.minute = m.minute
SET l.split_size = LEAST(COALESCE(l.split_size, %(size)s), %(size)s)
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned' AND l.state <> 'held';

-- name: first_failure
-- When the first failed delta batch of the same size that shares a minute with this batch was opened; only batches that
-- were opened after that minute's last merge count: one row.
SELECT MIN(f.opened_at) FROM etl.batch_minutes AS m
JOIN etl.batches AS f ON f.pipeline = %(pipeline)s AND f.state = 'failed' AND f.is_delta = 1 AND f.minutes = %(minutes)s
JOIN etl.batch_minutes AS same ON same.batch_id = f.batch_id AND same.minute = m.minute
LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND (l.merged_at IS NULL OR f.opened_at > l.merged_at);

-- name: merged_since
-- A batch that was merged later than `since`, with a minute of that day or a later one: one row, or none.
SELECT b.batch_id FROM etl.batches AS b
WHERE b.pipeline = %(pipeline)s AND b.state = 'merged' AND b.merged_at > %(since)s
  AND EXISTS (
    SELECT 1 FROM etl.batch_minutes AS m WHERE m.batch_id = b.batch_id AND m.state = 'merged' AND m.minute >= %(day)s
  )
ORDER BY b.batch_id DESC LIMIT 1;
