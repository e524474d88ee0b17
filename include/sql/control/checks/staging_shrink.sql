-- severity: fail
-- No minute has fewer rows than an earlier run read, unless the run sets allow_shrink: the lake may have lost rows.
SELECT c.minute, l.raw_rows AS rows_before, c.raw_rows AS rows_now
FROM etl.batches AS b
JOIN etl.staged_counts AS c ON c.attempt = %(attempt)s
JOIN etl.minute_ledger AS l ON l.pipeline = b.pipeline AND l.minute = c.minute
WHERE b.batch_id = %(batch_id)s AND b.allow_shrink = 0 AND c.raw_rows < l.raw_rows;
