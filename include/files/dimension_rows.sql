-- name: columns
-- The columns of a table with their types: one row per column.
SELECT column_name, CAST(data_type AS CHAR), CAST(column_type AS CHAR), character_maximum_length, character_octet_length,
  numeric_precision, numeric_scale
FROM information_schema.columns
WHERE table_schema = %(database)s AND table_name = %(table)s;
