-- name: counted
-- Records the counts of an hour, unless a later version has been counted.
UPDATE etl.lakehouse_hours
SET counted_change = %(version)s, counts = %(counts)s, counted_at = CURRENT_TIMESTAMP(6), waited_at = NULL,
  differs_since = NULL
WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND COALESCE(counted_change, 0) <= %(version)s;

-- name: waited
-- Records that an hour waits, unless it has changed or has been counted since.
UPDATE etl.lakehouse_hours SET waited_at = CURRENT_TIMESTAMP(6), differs_since = NULL
WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND changes = %(version)s AND to_count = 1;

-- name: differs
-- Records that an hour differs, unless another call has counted it since.
UPDATE etl.lakehouse_hours SET differs_since = COALESCE(differs_since, CURRENT_TIMESTAMP(6))
WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND COALESCE(counted_change, 0) < %(version)s;

-- name: figures
-- The fact's figures for these hours: one row per hour.
SELECT hour, {{ measures | join(", ") }} FROM {{ fact.table }} WHERE hour IN (%(hours)s);

-- name: contributions
-- Contributions to these hours from minutes that are folded, changed or not current: one row per minute and hour. The
-- ledger may lack the minute of a folded hour's contributions, which is the first of the hour.
SELECT c.minute, c.hour, {{ measures | join(", ") }}, f.hour IS NOT NULL AS folded FROM {{ fact.contributions }} AS c
LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = c.minute
LEFT JOIN etl.folded_hours AS f ON f.pipeline = %(pipeline)s AND f.hour = c.minute
WHERE c.hour IN (%(hours)s) AND (f.hour IS NOT NULL OR c.minute IN (%(changed)s) OR NOT {{ is_current }});

-- name: contributing_days
-- Days of the minutes that contribute to these hours: one row per day.
SELECT DISTINCT DATE(minute) FROM {{ fact.contributions }} WHERE hour IN (%(hours)s);

-- name: minutes_in
-- DuckDB: the minutes that the table has events of, each with the hour of the fact: one row per minute and hour.
SELECT DISTINCT minute, date_trunc('hour', {{ fact_time }}) FROM events;

-- name: events
-- DuckDB: the events of the wanted hours, without the minutes that are left out: one row per event.
CREATE VIEW events AS SELECT * FROM files
WHERE minute >= TIMESTAMP '{{ earliest }}' AND date_trunc('hour', {{ fact_time }}) IN (SELECT hour FROM wanted)
  AND minute NOT IN (SELECT minute FROM left_out);
