-- name: staged
-- How many minutes of a batch are planned, and how many of these the attempt has counted: one row.
SELECT COUNT(*), COUNT(c.minute) FROM etl.batch_minutes AS m
LEFT JOIN etl.staged_counts AS c ON c.attempt = %(attempt)s AND c.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

-- name: drop_superseded
-- Leaves out the minutes of a batch that a newer attempt has merged, or that have been closed since.
UPDATE etl.batch_minutes AS m FORCE INDEX (PRIMARY)
STRAIGHT_JOIN etl.minute_ledger AS l FORCE INDEX (PRIMARY) ON l.pipeline = %(pipeline)s AND l.minute = m.minute
SET m.state = 'superseded',
  m.reason = CASE WHEN l.state = 'closed' THEN l.reason ELSE CONCAT('attempt ', l.attempt, ' is newer and merged') END
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned' AND (l.attempt > %(attempt)s OR l.state = 'closed');

-- name: drop_unreleased
-- Leaves out the minutes of a batch that passed their gate because of a release that has been used up since.
UPDATE etl.batch_minutes AS m FORCE INDEX (PRIMARY)
STRAIGHT_JOIN etl.release_passes AS p FORCE INDEX (PRIMARY)
  ON p.batch_id = m.batch_id AND p.attempt = %(attempt)s AND p.minute = m.minute
STRAIGHT_JOIN etl.releases AS r FORCE INDEX (PRIMARY) ON r.release_id = p.release_id AND r.used_at IS NOT NULL
SET m.state = 'superseded', m.reason = CONCAT(
  'the release by ', r.released_by, ' is used up',
  CASE WHEN r.used_by_batch IS NULL THEN '' ELSE CONCAT(' by batch ', r.used_by_batch) END
)
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

-- name: oldest_kept_batch
-- The newest batch that was opened before the last day: one row, or none.
SELECT batch_id FROM etl.batches FORCE INDEX (by_age)
WHERE opened_at < CURRENT_TIMESTAMP(6) - INTERVAL 1 DAY ORDER BY opened_at DESC LIMIT 1;

-- name: oldest_kept_freshness
-- When the freshness that was in force `days` ago was published: one row.
SELECT MAX(published_at) FROM etl.freshness
WHERE pipeline = %(pipeline)s AND published_at < CURRENT_TIMESTAMP(6) - INTERVAL %(days)s DAY;

-- name: ended_attempts
-- The attempts among these whose batch belongs to this pipeline and is not open: one row per attempt.
SELECT a.attempt FROM etl.attempts AS a
JOIN etl.batches AS b ON b.batch_id = a.batch_id
WHERE a.attempt IN (%(attempts)s) AND b.pipeline = %(pipeline)s AND b.state <> 'open';

-- name: attempts_in
-- The attempts with rows in a table of staging, by a loose scan of the key: one row per attempt.
SELECT DISTINCT attempt FROM {{ table }};

-- name: remove_attempt
-- Removes the rows of an attempt from a table of staging.
DELETE {{ table }} FROM {{ table }} FORCE INDEX (PRIMARY) WHERE attempt = %(attempt)s;
