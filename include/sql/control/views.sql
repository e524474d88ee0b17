-- Views for dashboards of the pipelines' health. Columns that end in _utc are for filters, which find their rows by
-- index; columns without _utc have the same time in the reporting zone. A minute or hour is named by its start.

CREATE OR REPLACE VIEW etl.board_pipelines AS
SELECT p.pipeline, z.zone AS reporting_zone
FROM etl.pipelines AS p
CROSS JOIN etl.reporting_zone AS z;

-- One row per pipeline: its state now. Ages are in seconds, by the clock of this server; NULL: there is nothing yet.
CREATE OR REPLACE VIEW etl.board_now AS
SELECT
  p.pipeline,
  TIMESTAMPDIFF(SECOND, (
    SELECT f.newest_create_time FROM etl.freshness AS f
    WHERE f.pipeline = p.pipeline ORDER BY f.published_at DESC LIMIT 1
  ), UTC_TIMESTAMP(6)) AS newest_event_age,
  TIMESTAMPDIFF(SECOND, l.looked_at, UTC_TIMESTAMP(6)) AS looked_age,
  (
    SELECT COUNT(*) FROM etl.minute_ledger AS m FORCE INDEX (pending_minutes)
    WHERE m.pipeline = p.pipeline AND m.pending = 1
  ) AS pending_minutes,
  (
    SELECT COUNT(*) FROM etl.minute_ledger AS m FORCE INDEX (by_state)
    WHERE m.pipeline = p.pipeline AND m.state = 'held' AND m.waiting = 0
  ) AS held_minutes,
  COALESCE((
    SELECT GROUP_CONCAT(a.problem ORDER BY a.problem SEPARATOR ', ')
    FROM etl.alerts AS a WHERE a.pipeline = p.pipeline AND a.state = 'open'
  ), 'none') AS problems
FROM etl.pipelines AS p
LEFT JOIN etl.looks AS l ON l.pipeline = p.pipeline;

-- One row per merge that published a newer event than every earlier merge: the lag in seconds just before it and just
-- after.
CREATE OR REPLACE VIEW etl.board_lag AS
SELECT
  f.pipeline,
  f.published_at AS published_utc,
  f.published_at + INTERVAL COALESCE(
    CASE WHEN f.published_at < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS published,
  TIMESTAMPDIFF(MICROSECOND, f.newest_create_time, f.published_at) / 1000000 AS lag_after,
  TIMESTAMPDIFF(MICROSECOND, (
    SELECT b.newest_create_time FROM etl.freshness AS b
    WHERE b.pipeline = f.pipeline AND b.published_at < f.published_at ORDER BY b.published_at DESC LIMIT 1
  ), f.published_at) / 1000000 AS lag_before
FROM etl.freshness AS f
LEFT JOIN etl.reporting_days AS z ON z.day = DATE(f.published_at);

-- One row per pipeline and minute of the ledger: its rows by fate.
CREATE OR REPLACE VIEW etl.board_minutes AS
SELECT
  m.pipeline,
  m.minute AS minute_utc,
  m.minute + INTERVAL COALESCE(
    CASE WHEN m.minute < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS minute,
  m.raw_rows, m.counted_rows, m.ignored_rows, m.rejected_rows, m.state, m.waiting, m.reason, m.pending,
  TIMESTAMPDIFF(SECOND, m.minute + INTERVAL 1 MINUTE, m.merged_at) AS merged_after
FROM etl.minute_ledger AS m
LEFT JOIN etl.reporting_days AS z ON z.day = DATE(m.minute);

-- One row per rejected event. An event that never reached the lake may have no minute: then it has the minute of its
-- rejection.
CREATE OR REPLACE VIEW etl.board_rejected AS
SELECT
  r.pipeline, r.minute_utc,
  r.minute_utc + INTERVAL COALESCE(
    CASE WHEN r.minute_utc < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS minute,
  r.origin, r.reason
FROM (
  SELECT pipeline, minute AS minute_utc, origin, reason
  FROM etl.rejected_events WHERE minute IS NOT NULL
  UNION ALL
  SELECT
    pipeline,
    TIMESTAMP(DATE(rejected_at)) + INTERVAL HOUR(rejected_at) HOUR + INTERVAL MINUTE(rejected_at) MINUTE AS minute_utc,
    origin, reason
  FROM etl.rejected_events WHERE minute IS NULL
) AS r
LEFT JOIN etl.reporting_days AS z ON z.day = DATE(r.minute_utc);

-- One row per batch: its minutes and rows, and the seconds from the time when its run was due (without such a time: from
-- its opening) to its merge.
CREATE OR REPLACE VIEW etl.board_batches AS
SELECT
  b.pipeline, b.batch_id,
  b.opened_at AS opened_utc,
  b.opened_at + INTERVAL COALESCE(
    CASE WHEN b.opened_at < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS opened,
  b.kind, b.state, b.reason, b.minutes, b.raw_rows, b.counted_rows, b.ignored_rows, b.rejected_rows,
  TIMESTAMPDIFF(MICROSECOND, COALESCE(b.tick, b.opened_at), b.merged_at) / 1000000 AS seconds
FROM etl.batches AS b
LEFT JOIN etl.reporting_days AS z ON z.day = DATE(b.opened_at);
