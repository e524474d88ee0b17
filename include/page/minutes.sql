-- name: ledger
-- The ledger of the last minutes: one row per minute.
SELECT minute, state, pending, reason, raw_rows, counted_rows, ignored_rows, rejected_rows, batch_id, merged_at
FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute <= %(now)s;

-- name: tries
-- The newest batches of the last minutes, oldest first: one row per batch and minute.
SELECT m.minute, b.batch_id, b.state, b.reason, b.dag_id, b.run_id FROM {{ newest }} AS n
JOIN etl.batches AS b ON b.batch_id = n.batch_id
JOIN etl.batch_minutes AS m ON m.batch_id = b.batch_id AND m.minute >= %(start)s AND m.minute <= %(now)s
ORDER BY b.batch_id;
