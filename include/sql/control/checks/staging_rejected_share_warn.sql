-- severity: warn
-- More than 5 percent of a batch of 100 rows or more being rejected is worth a look at etl.rejected_summary.
SELECT t.raw_rows, t.rejected_rows
FROM (
  SELECT SUM(raw_rows) AS raw_rows, SUM(rejected_rows) AS rejected_rows
  FROM etl.staged_counts WHERE attempt = %(attempt)s
) AS t
WHERE t.raw_rows >= 100 AND t.rejected_rows > 0.05 * t.raw_rows;
