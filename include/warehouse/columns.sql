-- name: catalog_rows
-- What a view of information_schema has for a table: one row per column, key, partition or view.
SELECT {{ columns }} FROM information_schema.{{ view }}
WHERE table_schema = %(database)s AND table_name = %(name)s {{ order }};
