{# The condition on split_size makes each query walk the index pending_minutes. Without it, MySQL would walk the primary
key for the order. #}
{# A folded hour is read as a whole or not at all: a held or closed minute blocks it. #}
{% macro pending(condition, order) %}
SELECT minute, seen_changed_at, raw_rows, split_size FROM etl.minute_ledger AS l FORCE INDEX (pending_minutes)
WHERE pipeline = %(pipeline)s AND pending = 1 AND {{ condition }} AND NOT EXISTS (
  SELECT 1 FROM etl.folded_hours AS f
  JOIN etl.minute_ledger AS b
    ON b.pipeline = f.pipeline AND b.minute >= f.hour AND b.minute < f.hour + INTERVAL 1 HOUR
  WHERE f.pipeline = %(pipeline)s AND f.hour = l.minute - INTERVAL MINUTE(l.minute) MINUTE
    AND b.state IN ('held', 'closed') AND b.pending = 0
)
ORDER BY {{ order }} LIMIT %(limit)s
{%- endmacro %}

{% macro record_hold() %}
INSERT INTO etl.holds (
  pipeline, minute, held_since, held_at, batch_id, attempt, changed_at, rows_now, rejected_now, failing_checks
)
{%- endmacro %}
{% macro replace_hold() %}
ON DUPLICATE KEY UPDATE held_since = VALUES(held_since), held_at = VALUES(held_at), batch_id = VALUES(batch_id),
  attempt = VALUES(attempt), changed_at = VALUES(changed_at), rows_now = VALUES(rows_now),
  rejected_now = VALUES(rejected_now), failing_checks = VALUES(failing_checks)
{%- endmacro %}

-- name: newest_live
-- The newest pending minutes up to the horizon, without suspects: one row per minute.
{{ pending("split_size IS NULL AND minute <= %(horizon)s", "minute DESC") }};

-- name: oldest_pending
-- The oldest pending minutes, without suspects: one row per minute.
{{ pending("split_size IS NULL", "minute") }};

-- name: suspects
-- The oldest pending minutes that failed in a batch: one row per minute.
{{ pending("split_size IS NOT NULL", "minute") }};

-- name: last_to_settle
-- When a pending minute was last touched, if all of them are merged and pending only for their settle time: one row.
-- The first minute with another cause ends the search of a backlog. Minutes of folded hours do not end it: each may be
-- pending for as long as another minute of its hour is held.
SELECT MAX(seen_changed_time) FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND pending = 1 AND NOT EXISTS (
  SELECT 1 FROM etl.minute_ledger AS l
  WHERE l.pipeline = %(pipeline)s AND l.pending = 1
    AND CASE
      WHEN state = 'merged' AND read_at IS NOT NULL AND settled_before IS NOT NULL
        AND read_changed_at = seen_changed_at AND split_size IS NULL
      THEN 0 ELSE 1
    END = 1
    AND NOT EXISTS (
      SELECT 1 FROM etl.folded_hours AS f
      WHERE f.pipeline = l.pipeline AND f.hour = l.minute - INTERVAL MINUTE(l.minute) MINUTE
    )
);

-- name: record_hold
-- Records why a minute is held.
{{ record_hold() }} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
{{ replace_hold() }};

-- name: record_hold_as_read
-- Records that a minute is held because of the counts of its newest read.
{{ record_hold() }} SELECT d.* FROM (
  SELECT l.pipeline, l.minute,
    COALESCE(IF(l.state = 'held', h.held_since, NULL), CURRENT_TIMESTAMP(6)) AS since, CURRENT_TIMESTAMP(6) AS at,
    IF(l.state = 'held', h.batch_id, l.batch_id) AS batch, IF(l.state = 'held', h.attempt, l.attempt) AS attempt,
    l.seen_changed_at, IF(l.state = 'held', h.rows_now, l.raw_rows) AS raw,
    IF(l.state = 'held', h.rejected_now, l.rejected_rows) AS rejected, %s AS checks
  FROM etl.minute_ledger AS l
  LEFT JOIN etl.holds AS h ON h.pipeline = l.pipeline AND h.minute = l.minute
  WHERE l.pipeline = %s AND l.minute = %s
) AS d
{{ replace_hold() }};

-- name: make_held_pending
-- Makes held minutes pending.
UPDATE etl.minute_ledger SET held_changed_at = %(judged_again)s
WHERE pipeline = %(pipeline)s AND state = 'held' AND pending = 0 AND minute IN (%(minutes)s);

-- name: pending_count
-- How many minutes are pending, counted up to `limit`: one row.
SELECT COUNT(*)
FROM (SELECT 1 FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND pending = 1 LIMIT %(limit)s) AS found;

-- name: record_change
-- Records the newest change of a minute that a poll saw.
INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, seen_changed_time) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE seen_changed_at = VALUES(seen_changed_at), seen_changed_time = VALUES(seen_changed_time);

-- name: add_minute
-- Adds a minute that the ledger does not have yet.
INSERT INTO etl.minute_ledger (pipeline, minute) VALUES (%s, %s) ON DUPLICATE KEY UPDATE pipeline = VALUES(pipeline);

-- name: lock_minutes
-- Minutes with their state, the attempt that merged them and the start of their hold, locked: one row per minute.
SELECT l.minute, l.state, l.attempt, h.held_since FROM etl.minute_ledger AS l FORCE INDEX (PRIMARY)
LEFT JOIN etl.holds AS h FORCE INDEX (PRIMARY) ON h.pipeline = l.pipeline AND h.minute = l.minute
WHERE l.pipeline = %(pipeline)s AND l.minute IN (%(minutes)s)
FOR UPDATE;

-- name: hold
-- Holds a minute, and records the change that was read.
INSERT INTO etl.minute_ledger (pipeline, minute, state, reason, held_changed_at, waiting)
VALUES (%s, %s, %s, %s, %s, %s)
ON DUPLICATE KEY UPDATE state = VALUES(state), reason = VALUES(reason), held_changed_at = VALUES(held_changed_at),
  waiting = VALUES(waiting), split_size = NULL;

-- name: hold_without_reading
-- Holds a minute, and records its newest change as the one that was read.
UPDATE etl.minute_ledger
SET state = 'held', reason = %s, held_changed_at = seen_changed_at, waiting = 0, split_size = NULL
WHERE pipeline = %s AND minute = %s AND state <> 'closed';

-- name: void_releases
-- Marks the unused releases of minutes as used.
UPDATE etl.releases SET used_at = CURRENT_TIMESTAMP(6)
WHERE pipeline = %(pipeline)s AND used_at IS NULL AND minute IN (%(minutes)s);

-- name: reopenable
-- Closed minutes that the lake still has, locked: one row per minute.
SELECT minute, reason LIKE %(demo)s AS is_demo_only FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND state = 'closed' AND minute >= %(oldest)s AND minute IN (%(minutes)s)
FOR UPDATE;

-- name: forget_read
-- Resets minutes of demo events to the state before their first read: the lake no longer has the rows that were read.
UPDATE etl.minute_ledger
SET state = 'seen', reason = NULL, read_changed_at = NULL, read_at = NULL, settled_before = NULL, raw_rows = NULL,
  counted_rows = NULL, ignored_rows = NULL, rejected_rows = NULL, ignored_by_kind = NULL, id_checksum = NULL,
  newest_create_time = NULL, set_options = NULL
WHERE pipeline = %(pipeline)s AND state = 'closed' AND reason LIKE %(demo)s AND minute IN (%(minutes)s);

-- name: forget_rejected
-- Removes the rejected events of minutes.
DELETE FROM etl.rejected_events WHERE pipeline = %(pipeline)s AND origin = 'lake' AND minute IN (%(minutes)s);

-- name: forget_fields
-- Removes the counts of fields of minutes.
DELETE FROM etl.minute_fields WHERE pipeline = %(pipeline)s AND minute IN (%(minutes)s);

-- name: reopen
-- Opens closed minutes.
UPDATE etl.minute_ledger SET state = IF(attempt IS NULL, 'seen', 'merged'), reason = NULL
WHERE pipeline = %(pipeline)s AND state = 'closed' AND minute IN (%(minutes)s);

-- name: came_into_range
-- Merged minutes that were too far ahead when they were read, and are not now: one row per minute.
SELECT minute FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND state = 'merged' AND minute > %(start)s AND minute <= %(until)s
  AND read_at < minute - INTERVAL %(ahead_seconds)s SECOND;

-- name: read_again
-- Makes merged minutes pending, even if nothing has changed.
UPDATE etl.minute_ledger SET read_changed_at = NULL, read_at = NULL, settled_before = NULL
WHERE pipeline = %(pipeline)s AND state = 'merged' AND minute IN (%(minutes)s);

-- name: move_cursor
-- Records that a day's minutes were read.
INSERT INTO etl.day_cursors (pipeline, day, day_changed_at, drilled_at) VALUES (%s, %s, %s, %s)
ON DUPLICATE KEY UPDATE day_changed_at = VALUES(day_changed_at), drilled_at = VALUES(drilled_at);

-- name: record_poll_time
-- Records a poll of the change log.
INSERT INTO etl.looks (pipeline, looked_at, lake_clock) VALUES (%(pipeline)s, CURRENT_TIMESTAMP(6), %(clock)s)
ON DUPLICATE KEY UPDATE looked_at = VALUES(looked_at), lake_clock = VALUES(lake_clock);

-- name: seen_on_day
-- Minutes of a day with the newest change seen: one row per minute.
SELECT minute, seen_changed_at FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s AND seen_changed_at IS NOT NULL;

-- name: typical_rows
-- Average rows of the non-empty minutes of the last five merged batches: one row.
SELECT AVG(l.raw_rows)
FROM (
  SELECT batch_id FROM etl.batches WHERE pipeline = %(pipeline)s AND state = 'merged' ORDER BY batch_id DESC LIMIT 5
) AS b
JOIN etl.batch_minutes AS m ON m.batch_id = b.batch_id
JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute AND l.raw_rows > 0;

-- name: of_range
-- The ledger from `start` to `end` (excluded): one row per minute.
SELECT * FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s ORDER BY minute;

-- name: expired_holds
-- Held minutes before `oldest`, oldest first: one row per minute.
SELECT minute FROM etl.minute_ledger FORCE INDEX (by_state)
WHERE pipeline = %(pipeline)s AND state = 'held' AND minute < %(oldest)s ORDER BY minute;

-- name: close_held
-- Closes held minutes; their new reason includes why they were held.
UPDATE etl.minute_ledger
SET state = 'closed', reason = LEFT(CONCAT(%(reason)s, COALESCE(reason, '-')), %(longest)s), waiting = 0
WHERE pipeline = %(pipeline)s AND state = 'held' AND minute IN (%(minutes)s);

-- name: close_expired
-- Closes pending minutes before `oldest`.
UPDATE etl.minute_ledger SET state = 'closed', reason = %(reason)s
WHERE pipeline = %(pipeline)s AND pending = 1 AND minute < %(oldest)s;

-- name: forget_day
-- Removes a day's cursor if it has not moved.
DELETE FROM etl.day_cursors WHERE pipeline = %(pipeline)s AND day = %(day)s AND day_changed_at = %(seen)s;

-- name: close_minute
-- Closes a minute whose newest change is still the given one.
UPDATE etl.minute_ledger SET state = 'closed', reason = %(reason)s
WHERE pipeline = %(pipeline)s AND minute = %(minute)s AND state <> 'closed' AND seen_changed_at <=> %(changed_at)s;

-- name: of_minutes
-- The ledger of just these minutes: one row per minute.
SELECT * FROM etl.minute_ledger WHERE pipeline = %(pipeline)s AND minute IN (%(minutes)s);
