-- Every raw row of a minute that was read is counted, ignored or rejected.
-- table: etl.minute_ledger
SELECT minute, raw_rows AS expected_rows, counted_rows + ignored_rows + rejected_rows AS found_rows
FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s
  AND (raw_rows IS NOT NULL OR attempt IS NOT NULL)
  AND (raw_rows IS NULL OR NOT (raw_rows <=> counted_rows + ignored_rows + rejected_rows)
    OR LEAST(counted_rows, ignored_rows, rejected_rows) < 0);
