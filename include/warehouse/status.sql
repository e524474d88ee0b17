{# Both halves walk the index pending_minutes. A minute that check_warehouse made pending has waited since its merge. #}
{% macro waiting(condition) %}
(
    SELECT minute, seen_changed_time,
      CASE
        WHEN held_changed_at = 'judged again' THEN NULL
        WHEN read_at IS NULL AND merged_at > seen_changed_time THEN merged_at
        ELSE seen_changed_time
      END AS since
    FROM etl.minute_ledger
    WHERE pipeline = %(pipeline)s AND pending = 1 AND {{ condition }}
      AND minute <= %(now)s + INTERVAL %(ahead)s MICROSECOND
    ORDER BY minute DESC LIMIT %(limit)s
  )
{%- endmacro %}

-- name: counts
-- The current counts of a pipeline's ledger and batches: one row.
SELECT CURRENT_TIMESTAMP(6) AS queried_at,
  (SELECT looked_at FROM etl.looks WHERE pipeline = %(pipeline)s) AS looked_at,
  (SELECT COUNT(*) FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND pending = 1) AS pending,
  (SELECT COUNT(*) FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND state = 'held' AND waiting = 0) AS held,
  (
    SELECT MAX(merged_at) FROM (
      SELECT merged_at FROM etl.batches WHERE pipeline = %(pipeline)s AND state = 'merged'
      ORDER BY batch_id DESC LIMIT 10
    ) AS b
  ) AS last_merged_at,
  (
    SELECT MAX(merged_at) FROM (
      SELECT merged_at FROM etl.batches WHERE pipeline = %(pipeline)s AND state = 'merged' AND is_delta = 1
      ORDER BY batch_id DESC LIMIT 1
    ) AS d
  ) AS last_delta_at;

-- name: changes
-- The oldest change that waits, and the oldest live one: one row. A change is live when its minute was among the newest
-- at that time; a change of an older minute is backlog, such as an import.
SELECT MIN(since) AS oldest,
  MIN(CASE WHEN minute >= seen_changed_time - INTERVAL %(live)s MICROSECOND THEN since END) AS oldest_live
FROM (
  {{ waiting("split_size IS NULL") }}
  UNION ALL
  {{ waiting("split_size IS NOT NULL") }}
) AS waiting;

-- name: newest_in_ledger
-- The newest event of merged minutes: one row, or none.
SELECT newest_create_time FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND newest_create_time IS NOT NULL AND minute <= %(now)s ORDER BY minute DESC LIMIT 1;

-- name: held_newer
-- A held minute that is newer than what is published: one row, or none.
SELECT minute FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND state = 'held' AND waiting = 0 AND minute > %(newest)s
  AND minute <= %(now)s + INTERVAL %(ahead)s MICROSECOND
LIMIT 1;

-- name: new_fields
-- Undeclared fields that were first found within the last day and are not accepted: one row per field.
SELECT field FROM etl.drifts
WHERE pipeline = %(pipeline)s AND kind = 'appeared' AND accepted_by IS NULL AND found_at >= %(now)s - INTERVAL 1 DAY
ORDER BY drift_id;

-- name: deltas
-- The newest delta batches that have ended: one row per batch.
SELECT state, opened_at, reason FROM etl.batches
WHERE pipeline = %(pipeline)s AND is_delta = 1 AND state <> 'open' ORDER BY batch_id DESC LIMIT %(failures)s;

-- name: recent_batches
-- The newest batches: one row per batch.
SELECT batch_id, pipeline, kind, dag_id, run_id, tick, opened_at, merged_at, state, reason, minutes, merged_minutes,
  raw_rows, counted_rows, ignored_rows, rejected_rows, merged_attempt
FROM etl.batches ORDER BY batch_id DESC LIMIT %(limit)s;

-- name: open_alerts
-- Open problems that the watch has found: one row per problem.
SELECT pipeline, problem, began_at, told_at, found, remedy FROM etl.alerts
WHERE state = 'open' ORDER BY began_at, pipeline, problem;
