-- name: to_release
-- Held minutes from `start` to `end` (excluded), with the release that is not used yet: one row per minute.
SELECT l.minute, l.reason, r.release_id FROM etl.minute_ledger AS l
LEFT JOIN etl.releases AS r ON r.pipeline = l.pipeline AND r.minute = l.minute AND r.used_at IS NULL
WHERE l.pipeline = %(pipeline)s AND l.state = 'held' AND l.minute >= %(start)s AND l.minute < %(end)s
ORDER BY l.minute;

-- name: release
-- Makes held minutes pending. The batch that reads them publishes them.
UPDATE etl.minute_ledger SET held_changed_at = %(released)s
WHERE pipeline = %(pipeline)s AND state = 'held' AND minute >= %(start)s AND minute < %(end)s;

-- name: outstanding
-- Releases that neither a merge nor another hold has used up: one row per release.
SELECT release_id, minute, released_by FROM etl.releases
WHERE pipeline = %(pipeline)s AND used_at IS NULL ORDER BY release_id;

-- name: held_minutes
-- Held minutes with their status, the reason for their hold, and their unused release: one row per minute.
SELECT l.pipeline, l.minute,
  CASE
    WHEN r.release_id IS NOT NULL THEN 'released'
    WHEN l.held_changed_at = 'released' THEN 'accepted'
    WHEN l.held_changed_at = 'judged again' THEN 'due'
    WHEN l.pending = 1 THEN 'touched'
    WHEN l.waiting = 1 THEN 'waiting'
    ELSE 'held'
  END AS status,
  h.held_since, h.held_at, h.batch_id, h.attempt, l.reason, l.raw_rows AS rows_before, h.rows_now, r.released_by,
  r.released_at, r.reason AS released_because, h.failing_checks
FROM etl.minute_ledger AS l
LEFT JOIN etl.holds AS h ON h.pipeline = l.pipeline AND h.minute = l.minute
LEFT JOIN etl.releases AS r ON r.pipeline = l.pipeline AND r.minute = l.minute AND r.used_at IS NULL
WHERE l.pipeline = %(pipeline)s AND l.state = 'held'
ORDER BY l.minute LIMIT %(limit)s;

-- name: failures
-- Failed checks of an attempt in the staging gate, with or without samples of rows: one row per check.
SELECT check_name, offending_rows, {{ "sample" if samples else "NULL AS sample" }} FROM etl.check_results
WHERE batch_id = %(batch_id)s AND attempt = %(attempt)s AND gate = 'staging' AND outcome = 'fail'
ORDER BY check_result_id;

-- name: last_used_release
-- The newest release from `start` to `end` (excluded) that a merge has used: one row, or none.
SELECT minute, released_by, released_at, used_by_batch FROM etl.releases
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s AND used_by_batch IS NOT NULL
ORDER BY release_id DESC LIMIT 1;

-- name: oldest_closed
-- The oldest closed minute from `start` to `end` (excluded): one row, or none.
SELECT minute, reason FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND state = 'closed' AND minute >= %(start)s AND minute < %(end)s ORDER BY minute LIMIT 1;
