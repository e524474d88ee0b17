-- name: columns
-- The columns of a table with their types: one row per column.
SELECT column_name, data_type, character_maximum_length FROM information_schema.columns
WHERE table_schema = %(database)s AND table_name = %(table)s;
