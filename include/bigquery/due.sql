-- name: loaded
-- Records that an hour was loaded, unless a later version was.
UPDATE etl.lakehouse_hours SET loaded_change = %(version)s, loaded_at = CURRENT_TIMESTAMP(6)
WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND COALESCE(loaded_change, 0) <= %(version)s;

-- name: use_table
-- Records which table of BigQuery the hours are loaded into.
INSERT INTO etl.bigquery_tables (pipeline, table_id, created_ms) VALUES (%(pipeline)s, %(table_id)s, %(created_ms)s)
ON DUPLICATE KEY UPDATE table_id = VALUES(table_id), created_ms = VALUES(created_ms);

-- name: not_loaded
-- Makes all hours due.
UPDATE etl.lakehouse_hours SET loaded_change = NULL WHERE pipeline = %(pipeline)s AND loaded_change IS NOT NULL;
