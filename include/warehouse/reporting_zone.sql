-- name: days
-- Days on which the zone differs from UTC: one row per day.
SELECT day, offset_seconds, changes_at, offset_after FROM etl.reporting_days ORDER BY day;

-- name: add_day
-- Adds a day with its offsets.
INSERT INTO etl.reporting_days (day, offset_seconds, changes_at, offset_after) VALUES (%s, %s, %s, %s);

-- name: set_zone
-- Sets the zone unless it is set already.
INSERT INTO etl.reporting_zone (zone) SELECT d.zone FROM (SELECT %(zone)s AS zone) AS d
WHERE NOT EXISTS (SELECT 1 FROM etl.reporting_zone AS z WHERE z.zone = d.zone);
