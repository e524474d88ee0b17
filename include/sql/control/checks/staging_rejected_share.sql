-- severity: fail
-- Fails when more than 20 percent of a batch of at least 100 rows are rejected; lists the minutes responsible.
SELECT c.minute, c.raw_rows, c.rejected_rows, t.raw_rows AS batch_raw_rows, t.rejected_rows AS batch_rejected_rows
FROM (
  SELECT SUM(raw_rows) AS raw_rows, SUM(rejected_rows) AS rejected_rows
  FROM etl.staged_counts WHERE attempt = %(attempt)s
) AS t
JOIN etl.staged_counts AS c ON c.attempt = %(attempt)s AND c.rejected_rows > 0.20 * c.raw_rows
WHERE t.raw_rows >= 100 AND t.rejected_rows > 0.20 * t.raw_rows;
