-- Run until it removes nothing, in transactions of their own.
-- Bind: oldest_kept_batch, whose check_warehouse, like those of later batches, may still be run.

DELETE FROM {{ fact.touched }} WHERE batch_id < %(oldest_kept_batch)s LIMIT 10000;
