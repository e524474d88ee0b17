-- severity: fail
-- Every raw row of a minute is counted, ignored or rejected, and each rejected row is kept.
SELECT c.minute, c.raw_rows, c.counted_rows, c.ignored_rows, c.rejected_rows, COALESCE(r.kept, 0) AS rejects_kept
FROM etl.staged_counts AS c
LEFT JOIN (
  SELECT minute, COUNT(*) AS kept FROM etl.staged_rejects WHERE attempt = %(attempt)s GROUP BY minute
) AS r ON r.minute = c.minute
WHERE c.attempt = %(attempt)s
  AND (c.raw_rows <> c.counted_rows + c.ignored_rows + c.rejected_rows OR c.rejected_rows <> COALESCE(r.kept, 0)
    OR c.counted_rows < 0 OR c.ignored_rows < 0 OR c.rejected_rows < 0);
