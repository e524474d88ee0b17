-- severity: fail
-- Every merged minute of the batch has a ledger row of this attempt or a newer one, and its rows add up.
SELECT
  m.minute, m.state AS batch_minute, l.state AS ledger, l.attempt, l.raw_rows, l.counted_rows, l.ignored_rows,
  l.rejected_rows
FROM etl.batch_minutes AS m
LEFT JOIN etl.minute_ledger AS l ON l.pipeline = %(pipeline)s AND l.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state IN ('planned', 'merged')
  AND (l.attempt IS NULL OR l.attempt < %(attempt)s
    OR NOT (l.raw_rows <=> l.counted_rows + l.ignored_rows + l.rejected_rows));
