-- name: counts
-- Hours that were counted, with their counts: one row per hour.
SELECT hour, counted_change, counts, to_load FROM etl.lakehouse_hours
WHERE pipeline = %(pipeline)s AND counted_change IS NOT NULL AND hour >= COALESCE(%(start)s, hour)
  AND (%(end)s IS NULL OR hour < %(end)s);

-- name: shown
-- BigQuery: the hours that the view shows, one row per hour.
SELECT DATETIME(hour) AS hour, {{ names | join(", ") }} FROM `{{ view }}`
WHERE TRUE {%- for sign, name, _ in bounds %} AND hour {{ sign }} @{{ name }}{% endfor %};
