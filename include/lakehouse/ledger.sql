{% macro is_current() %}
(l.raw_rows IS NOT NULL AND l.read_at IS NOT NULL
    AND (l.lakehouse_kept <=> l.attempt
      OR (l.lakehouse_attempt <=> l.attempt AND NOT l.lakehouse_skipped <=> l.attempt)))
{%- endmacro %}
{# The merge rejects such minutes until their time comes (`most_ahead`): ADR 25. #}
{% macro is_ahead() %}COALESCE(l.minute > l.read_at + INTERVAL %(most_ahead)s SECOND, FALSE){% endmacro %}

-- name: is_current
-- The condition that the table has the newest merged read of minute `l` of the ledger.
{{ is_current() }};

-- name: not_current
-- The minutes among these that are too far ahead or not current, with the reason why hours wait for them: one row per
-- minute. NULL: it was merged less than `patience` ago, and is written as soon as it settles.
SELECT l.minute,
  CASE
    WHEN {{ is_ahead() }} THEN 'ahead'
    WHEN l.state <> 'merged' THEN l.state
    WHEN NOT l.lakehouse_attempt <=> 0
      AND l.merged_at >= CURRENT_TIMESTAMP(6) - INTERVAL %(patience)s SECOND THEN NULL
    WHEN l.lakehouse_skipped <=> l.attempt THEN 'skipped'
    ELSE 'due'
  END AS waits
FROM etl.minute_ledger AS l FORCE INDEX (PRIMARY)
WHERE l.pipeline = %(pipeline)s AND l.minute IN (%(minutes)s) AND ({{ is_ahead() }} OR NOT {{ is_current() }});

-- name: record_lost
-- Records the minutes that the table no longer has, closed ones too; merged ones become due.
UPDATE etl.minute_ledger FORCE INDEX (PRIMARY)
SET lakehouse_attempt = 0, lakehouse_kept = NULL, lakehouse_skipped = NULL
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s
  AND (lakehouse_attempt > 0 OR lakehouse_kept IS NOT NULL);

-- name: make_due
-- Makes minutes due that the table has or that were skipped, except closed ones: the lake may no longer have all of their
-- events. Held ones are due after their next merge.
UPDATE etl.minute_ledger FORCE INDEX (PRIMARY)
SET lakehouse_kept = IF(lakehouse_skipped <=> lakehouse_attempt, lakehouse_kept, lakehouse_attempt),
  lakehouse_skipped = NULL, lakehouse_attempt = 0
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s
  AND lakehouse_attempt > 0 AND state <> 'closed';

-- name: hours_between
-- Hours that the fact has, or that were counted or are to be: one row per hour.
SELECT hour FROM {{ fact.table }} WHERE hour >= %(start)s AND hour < %(end)s
UNION
SELECT hour FROM etl.lakehouse_hours WHERE pipeline = %(pipeline)s AND hour >= %(start)s AND hour < %(end)s;

-- name: due
-- Minutes that are due to be written, the newest first: one row per minute.
SELECT minute, attempt, raw_rows, id_checksum FROM etl.minute_ledger FORCE INDEX (lakehouse_minutes)
WHERE pipeline = %(pipeline)s AND to_lakehouse = 1 ORDER BY minute DESC LIMIT %(limit)s;

-- name: record_written
-- Records that the table has a read of a minute, or that it was skipped, unless the writer used a former table of the
-- catalog. A skipped minute stays in the table as it is.
UPDATE etl.minute_ledger AS l
JOIN etl.lakehouse_tables AS t ON t.pipeline = l.pipeline AND t.table_uuid = %(table)s
SET l.lakehouse_attempt = %(attempt)s, l.lakehouse_kept = IF(%(skipped)s IS NULL, NULL, l.lakehouse_kept),
  l.lakehouse_skipped = %(skipped)s
WHERE l.pipeline = %(pipeline)s AND l.minute = %(minute)s AND l.attempt = %(attempt)s;

-- name: record_written_at
-- Records when the table was written.
UPDATE etl.lakehouse_tables SET written_at = CURRENT_TIMESTAMP(6)
WHERE pipeline = %(pipeline)s AND table_uuid = %(table)s;

-- name: use_table
-- Records which table the ledger describes.
INSERT INTO etl.lakehouse_tables (pipeline, table_uuid) VALUES (%(pipeline)s, %(table)s)
ON DUPLICATE KEY UPDATE table_uuid = VALUES(table_uuid), created_at = CURRENT_TIMESTAMP(6);

-- name: mark_changed
-- Marks an hour as changed. `changes` is the version in names of files and load jobs: as it follows the clock, it also
-- rises in a restored or new warehouse.
INSERT INTO etl.lakehouse_hours (pipeline, hour, changes) VALUES (%(pipeline)s, %(hour)s, UNIX_TIMESTAMP())
ON DUPLICATE KEY UPDATE changes = GREATEST(changes + 1, UNIX_TIMESTAMP()), waited_at = NULL;

-- name: changed_since_read
-- Minutes of a range with the change that their merged read covers: one row per minute.
SELECT minute, CONVERT(read_changed_at USING utf8mb4) AS changed_at FROM etl.minute_ledger FORCE INDEX (PRIMARY)
WHERE pipeline = %(pipeline)s AND minute BETWEEN %(first)s AND %(last)s AND read_changed_at IS NOT NULL;

-- name: days
-- Days that the ledger has minutes of: one row per day.
SELECT DISTINCT DATE(minute) FROM etl.minute_ledger WHERE pipeline = %(pipeline)s;
