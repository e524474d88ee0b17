-- severity: fail
-- Each minute of the batch has as many operations as its newest read counted, unless its day has been dropped.
SELECT m.minute, l.counted_rows, COUNT(o.minute) AS operation_rows
FROM etl.batch_minutes AS m
STRAIGHT_JOIN etl.pipelines AS p
  ON p.pipeline = %(pipeline)s AND (p.rows_kept_from IS NULL OR m.minute >= p.rows_kept_from)
STRAIGHT_JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute
LEFT JOIN ecommerce.operations AS o ON o.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state IN ('planned', 'merged')
GROUP BY m.minute, l.counted_rows
HAVING NOT (l.counted_rows <=> COUNT(o.minute));
