-- severity: warn
-- Warns when more than 5 percent of a batch of at least 100 rows are rejected; see etl.rejected_summary.
SELECT t.raw_rows, t.rejected_rows
FROM (
  SELECT SUM(raw_rows) AS raw_rows, SUM(rejected_rows) AS rejected_rows
  FROM etl.staged_counts WHERE attempt = %(attempt)s
) AS t
WHERE t.raw_rows >= 100 AND t.rejected_rows > 0.05 * t.raw_rows;
