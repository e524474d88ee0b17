-- name: old_payloads
-- Rejected events older than `age` that have a payload, with an id above `after`: one row per event.
SELECT rejected_id FROM etl.rejected_events
WHERE rejected_id > %(after)s AND pipeline = %(pipeline)s
  AND rejected_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND AND payload <> ''
ORDER BY rejected_id LIMIT %(limit)s;

-- name: old_samples
-- Check results older than `age` that have a sample, with an id above `after`: one row per result.
SELECT r.check_result_id FROM etl.check_results AS r
JOIN etl.batches AS b ON b.batch_id = r.batch_id
WHERE r.check_result_id > %(after)s AND b.pipeline = %(pipeline)s AND r.sample IS NOT NULL
  AND r.checked_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND
ORDER BY r.check_result_id LIMIT %(limit)s;

-- name: old_batches
-- Batches older than `age` that are not open, with an id above `after`: one row per batch. The newest batch and the newest merged
-- ones stay.
SELECT batch_id FROM etl.batches
WHERE batch_id > %(after)s AND batch_id < %(newest)s AND pipeline = %(pipeline)s AND state <> 'open'
  AND (state <> 'merged' OR batch_id < %(kept_merged)s)
  AND opened_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND
ORDER BY batch_id LIMIT %(limit)s;

-- name: old_drifts
-- Drift that was not accepted, and ended more than `age` ago or is of an undeclared field not found since then: one row per
-- drift. A drift that still holds minutes stays, because those minutes are compared with it when they are read again.
SELECT d.drift_id, d.kind, d.field FROM etl.drifts AS d
WHERE d.pipeline = %(pipeline)s AND d.accepted_by IS NULL AND (d.ended_minute IS NOT NULL OR d.kind = %(appeared)s)
  AND GREATEST(d.found_at, COALESCE(d.ended_minute, d.last_minute, d.first_minute))
    < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND
  AND NOT EXISTS (
    SELECT 1 FROM etl.minute_ledger AS l
    JOIN etl.holds AS h ON h.pipeline = l.pipeline AND h.minute = l.minute
    WHERE l.pipeline = d.pipeline AND l.state = 'held'
      AND l.minute >= d.first_minute - INTERVAL 1 DAY AND l.minute < COALESCE(d.ended_minute, '9999-12-31')
      AND h.failing_checks LIKE CASE d.kind
        {% for kind in kinds %}
        WHEN '{{ kind }}' THEN %(check_{{ kind }})s
        {% endfor %}
      END
  );

-- name: count_attempt
-- How many rows of an attempt a staging table has: one row.
SELECT COUNT(*) FROM {{ table }} WHERE attempt = %(attempt)s;

-- name: remove_attempt
-- Removes some rows of an attempt from a staging table.
DELETE FROM {{ table }} WHERE attempt = %(attempt)s LIMIT %(chunk)s;

-- name: remove_of_batches
-- Removes the rows of batches from a table.
DELETE FROM {{ table }} WHERE batch_id IN (%(ids)s);

-- name: remove_attempts
-- Removes the attempts of batches. The newest attempt stays: a server that restarts must not reuse its number.
DELETE FROM etl.attempts WHERE attempt < %(newest)s AND batch_id IN (%(ids)s);

-- name: count_field_counts
-- How many rows of field counts were merged more than `age` ago: one row.
SELECT COUNT(*) FROM etl.minute_fields
WHERE pipeline = %(pipeline)s AND merged_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND;

-- name: remove_field_counts
-- Removes some rows of field counts that were merged more than `age` ago.
DELETE FROM etl.minute_fields
WHERE pipeline = %(pipeline)s AND merged_at < CURRENT_TIMESTAMP(6) - INTERVAL %(age)s MICROSECOND
LIMIT %(chunk)s;

-- name: kept_merged
-- The oldest of the newest merged batches that are kept: one row, or none.
SELECT batch_id FROM etl.batches
WHERE pipeline = %(pipeline)s AND state = 'merged' ORDER BY batch_id DESC LIMIT 1 OFFSET %(kept)s;

-- name: undeclared_fields
-- Counts of fields that include undeclared fields: one row per minute.
SELECT field_counts FROM etl.minute_fields WHERE pipeline = %(pipeline)s AND field_counts NOT LIKE '%%"unknown": {}%%';

-- name: open_batch_of
-- The batch of an attempt, if it is open: one row, or none.
SELECT b.batch_id FROM etl.attempts AS a
JOIN etl.batches AS b ON b.batch_id = a.batch_id
WHERE a.attempt = %(attempt)s AND b.state = 'open';
