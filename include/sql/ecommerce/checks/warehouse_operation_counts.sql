-- severity: fail
-- Each minute of the batch has as many operations as its newest read counted, in the hours that event_hours lists.
SELECT m.minute, l.counted_rows, COALESCE(SUM(d.operation_rows), 0) AS operation_rows, COALESCE(SUM(d.misplaced), 0) AS misplaced
FROM etl.batch_minutes AS m
JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute
LEFT JOIN (
  SELECT e.minute, e.hour, SUM(e.operation_rows) AS operation_rows, ABS(SUM(e.operation_rows) - SUM(e.hour_rows)) AS misplaced
  FROM (
    SELECT o.minute, o.hour, COUNT(*) AS operation_rows, 0 AS hour_rows
    FROM etl.batch_minutes AS b
    STRAIGHT_JOIN ecommerce.operations AS o ON o.minute = b.minute
    WHERE b.batch_id = %(batch_id)s
    GROUP BY o.minute, o.hour
    UNION ALL
    SELECT h.minute, h.hour, 0, h.events
    FROM etl.batch_minutes AS b
    STRAIGHT_JOIN ecommerce.event_hours AS h ON h.minute = b.minute
    WHERE b.batch_id = %(batch_id)s
  ) AS e
  GROUP BY e.minute, e.hour
) AS d ON d.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state IN ('planned', 'merged')
GROUP BY m.minute, l.counted_rows
HAVING NOT (l.counted_rows <=> COALESCE(SUM(d.operation_rows), 0)) OR COALESCE(SUM(d.misplaced), 0) <> 0;
