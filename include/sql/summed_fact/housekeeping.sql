-- Runs until it removes nothing, each time in its own transaction.
-- Bind: oldest_kept_batch. The check_warehouse of this batch and of later ones may still run.

DELETE FROM {{ fact.touched }} WHERE batch_id < %(oldest_kept_batch)s LIMIT 10000;
