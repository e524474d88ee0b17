-- The part of the merge that all pipelines share, after their own merge.sql: rejected events, ledger, batch, staging.
-- These tables have rows of every pipeline, and a merge must not wait for another pipeline. So a statement that locks
-- rows names its index and compares with =: a scan, or a range to the pipeline's last row, also locks the next
-- pipeline's first row. Binds: pipeline, batch_id, attempt, settle_microseconds, ahead_microseconds,
-- oldest_kept_freshness, set_options.

-- Only rows from the lake: rows that an import rejected are not part of these minutes' reads.
DELETE etl.rejected_events
FROM etl.batch_minutes AS m
STRAIGHT_JOIN etl.rejected_events FORCE INDEX (by_minute)
  ON rejected_events.pipeline = %(pipeline)s AND rejected_events.minute = m.minute AND rejected_events.origin = 'lake'
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload, batch_id)
SELECT %(pipeline)s, 'lake', s.origin_key, s.minute, s.reason, s.payload, %(batch_id)s
FROM etl.staged_rejects AS s
JOIN etl.batch_minutes AS m ON m.batch_id = %(batch_id)s AND m.minute = s.minute AND m.state = 'planned'
WHERE s.attempt = %(attempt)s;

DELETE etl.minute_fields
FROM etl.batch_minutes AS m
STRAIGHT_JOIN etl.minute_fields FORCE INDEX (PRIMARY)
  ON minute_fields.pipeline = %(pipeline)s AND minute_fields.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO etl.minute_fields (pipeline, minute, field_counts, merged_at)
SELECT %(pipeline)s, c.minute, c.field_counts, CURRENT_TIMESTAMP(6)
FROM etl.batch_minutes AS m
JOIN etl.staged_counts AS c ON c.attempt = %(attempt)s AND c.minute = m.minute AND c.field_counts IS NOT NULL
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

-- Runs before the ledger is written: if etl.freshness is empty, the previous newest time comes from the ledger. Old
-- minutes, empty minutes and those too far ahead of the lake's clock change nothing; an event from a clock that is ahead
-- counts as of its publication.
INSERT INTO etl.freshness (pipeline, published_at, newest_create_time)
SELECT %(pipeline)s, d.published_at, d.newest_create_time
FROM (
  SELECT
    CURRENT_TIMESTAMP(6) AS published_at,
    LEAST(MAX(c.newest_create_time), CURRENT_TIMESTAMP(6)) AS newest_create_time,
    COALESCE(
      (
        SELECT f.newest_create_time FROM etl.freshness AS f
        WHERE f.pipeline = %(pipeline)s
        ORDER BY f.published_at DESC LIMIT 1
      ),
      (
        SELECT l.newest_create_time FROM etl.minute_ledger AS l
        WHERE l.pipeline = %(pipeline)s AND l.minute <= CURRENT_TIMESTAMP(6) AND l.newest_create_time IS NOT NULL
        ORDER BY l.minute DESC LIMIT 1
      ),
      TIMESTAMP('1000-01-01')
    ) AS newest_before
  FROM etl.batches AS b
  JOIN etl.batch_minutes AS m ON m.batch_id = b.batch_id AND m.state = 'planned'
    AND m.minute <= b.lake_clock + INTERVAL %(ahead_microseconds)s MICROSECOND
  JOIN etl.staged_counts AS c ON c.attempt = %(attempt)s AND c.minute = m.minute
  WHERE b.batch_id = %(batch_id)s
) AS d
WHERE d.newest_create_time > d.newest_before;

DELETE etl.freshness
FROM etl.freshness FORCE INDEX (PRIMARY)
WHERE pipeline = %(pipeline)s AND published_at < %(oldest_kept_freshness)s;

INSERT INTO etl.minute_ledger (
  pipeline, minute, read_changed_at, read_at, settled_before, batch_id, attempt, raw_rows, counted_rows, ignored_rows,
  rejected_rows, ignored_by_kind, id_checksum, newest_create_time, set_options, state, merged_at
)
SELECT
  d.pipeline, d.minute, d.changed_at, d.lake_clock, d.settled_before, d.batch_id, d.attempt, d.raw_rows, d.counted_rows,
  d.ignored_rows, d.rejected_rows, d.ignored_by_kind, d.id_checksum, d.newest_create_time, d.set_options, 'merged',
  d.merged_at
FROM (
  SELECT
    b.pipeline, m.minute, m.changed_at, b.lake_clock,
    b.lake_clock - INTERVAL %(settle_microseconds)s MICROSECOND AS settled_before,
    b.batch_id, c.attempt, c.raw_rows, c.counted_rows, c.ignored_rows, c.rejected_rows, c.ignored_by_kind,
    c.id_checksum, c.newest_create_time, %(set_options)s AS set_options, CURRENT_TIMESTAMP(6) AS merged_at
  FROM etl.batches AS b
  JOIN etl.batch_minutes AS m ON m.batch_id = b.batch_id AND m.state = 'planned'
  JOIN etl.staged_counts AS c ON c.attempt = %(attempt)s AND c.minute = m.minute
  WHERE b.batch_id = %(batch_id)s
  ORDER BY m.minute
) AS d
ON DUPLICATE KEY UPDATE
  read_changed_at = d.changed_at, read_at = d.lake_clock, settled_before = d.settled_before, batch_id = d.batch_id,
  attempt = d.attempt, raw_rows = d.raw_rows, counted_rows = d.counted_rows, ignored_rows = d.ignored_rows,
  rejected_rows = d.rejected_rows, ignored_by_kind = d.ignored_by_kind, id_checksum = d.id_checksum,
  newest_create_time = d.newest_create_time, set_options = d.set_options, state = 'merged', reason = NULL,
  held_changed_at = NULL, waiting = 0, split_size = NULL, merged_at = d.merged_at;

INSERT INTO etl.hours (pipeline, hour, version, changed_at, changed_since)
SELECT d.pipeline, d.hour, 1, d.merged_at, d.merged_at
FROM (
  SELECT
    %(pipeline)s AS pipeline, m.minute - INTERVAL MINUTE(m.minute) MINUTE AS hour,
    CURRENT_TIMESTAMP(6) AS merged_at
  FROM etl.batch_minutes AS m
  WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
  GROUP BY 2
  ORDER BY 2
) AS d
ON DUPLICATE KEY UPDATE
  changed_since = COALESCE(changed_since, d.merged_at), version = version + 1, changed_at = d.merged_at;

UPDATE etl.batches AS b
JOIN (
  SELECT
    COUNT(*) AS minutes, SUM(c.raw_rows) AS raw_rows, SUM(c.counted_rows) AS counted_rows,
    SUM(c.ignored_rows) AS ignored_rows, SUM(c.rejected_rows) AS rejected_rows
  FROM etl.batch_minutes AS m
  JOIN etl.staged_counts AS c ON c.attempt = %(attempt)s AND c.minute = m.minute
  WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
) AS t
SET
  b.state = 'merged', b.reason = NULL, b.merged_attempt = %(attempt)s, b.merged_at = CURRENT_TIMESTAMP(6),
  b.unchecked_since = CURRENT_TIMESTAMP(6), b.merged_minutes = t.minutes, b.raw_rows = t.raw_rows,
  b.counted_rows = t.counted_rows, b.ignored_rows = t.ignored_rows, b.rejected_rows = t.rejected_rows
WHERE b.batch_id = %(batch_id)s;

-- A release is used up by the merge of its minute, whether or not a check needed it.
UPDATE etl.batch_minutes AS m
STRAIGHT_JOIN etl.releases AS r FORCE INDEX (by_minute)
  ON r.pipeline = %(pipeline)s AND r.minute = m.minute AND r.used_at IS NULL
SET r.used_by_batch = %(batch_id)s, r.used_at = CURRENT_TIMESTAMP(6)
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

UPDATE etl.batch_minutes SET state = 'merged' WHERE batch_id = %(batch_id)s AND state = 'planned';

-- Minutes that failed in a larger batch have passed in this one, so the others that failed may be read in larger batches.
UPDATE etl.minute_ledger AS l FORCE INDEX (pending_minutes)
JOIN etl.batches AS b ON b.batch_id = %(batch_id)s AND b.split_size IS NOT NULL
SET l.split_size = LEAST(l.split_size * 2, 100000)
WHERE l.pipeline = %(pipeline)s AND l.pending = 1 AND COALESCE(l.split_size, 0) > 0;
