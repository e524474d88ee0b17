{% if not fact.output %}
-- severity: fail
-- A minute's contributions to {{ fact.table }} add up to exactly its counted rows.
SELECT c.minute, c.counted_rows, COALESCE(s.event_count, 0) AS contributed
FROM etl.staged_counts AS c
LEFT JOIN (
  SELECT minute, SUM(event_count) AS event_count FROM {{ fact.staging }} WHERE attempt = %(attempt)s GROUP BY minute
) AS s ON s.minute = c.minute
WHERE c.attempt = %(attempt)s AND c.counted_rows <> COALESCE(s.event_count, 0)
UNION ALL
SELECT s.minute, 0, SUM(s.event_count)
FROM {{ fact.staging }} AS s
LEFT JOIN etl.staged_counts AS c ON c.attempt = s.attempt AND c.minute = s.minute
WHERE s.attempt = %(attempt)s AND c.minute IS NULL
GROUP BY s.minute;
{% endif %}
