-- severity: fail
-- A minute has exactly as many staged operations as counted rows.
SELECT c.minute, c.counted_rows, COALESCE(s.staged, 0) AS staged
FROM etl.staged_counts AS c
LEFT JOIN (
  SELECT minute, COUNT(*) AS staged FROM ecommerce.operations_staged WHERE attempt = %(attempt)s GROUP BY minute
) AS s ON s.minute = c.minute
WHERE c.attempt = %(attempt)s AND c.counted_rows <> COALESCE(s.staged, 0)
UNION ALL
SELECT s.minute, 0, COUNT(*)
FROM ecommerce.operations_staged AS s
LEFT JOIN etl.staged_counts AS c ON c.attempt = s.attempt AND c.minute = s.minute
WHERE s.attempt = %(attempt)s AND c.minute IS NULL
GROUP BY s.minute;
