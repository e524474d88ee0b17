-- name: minutes
-- The ledger of a range, and whether the table has each minute's newest merged read: one row per minute.
SELECT minute, state, attempt, raw_rows, id_checksum, lakehouse_attempt, lakehouse_skipped, {{ is_current }} AS current
FROM etl.minute_ledger AS l FORCE INDEX (PRIMARY)
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s;

-- name: counts
-- The newest counts of the hours of a range: one row per hour.
SELECT hour, counted_change, counts, to_count FROM etl.lakehouse_hours
WHERE pipeline = %(pipeline)s AND hour >= %(start)s AND hour < %(end)s;

-- name: hours
-- The hours of a range that the fact has: one row per hour.
SELECT hour FROM {{ fact.table }} WHERE hour >= %(start)s AND hour < %(end)s;

-- name: hours_of_minutes
-- The hours of the fact to which the minutes of a range contribute: one row per hour.
SELECT DISTINCT hour FROM {{ fact.contributions }} WHERE minute >= %(start)s AND minute < %(end)s;
