-- name: keep_from
-- Moves the day from which rows are kept.
UPDATE etl.pipelines SET rows_kept_from = %(day)s
WHERE pipeline = %(pipeline)s AND (rows_kept_from IS NULL OR rows_kept_from < %(day)s);

-- name: rows_up_to
-- How many rows a partition has, counted up to `limit`: one row.
SELECT COUNT(*) FROM (SELECT 1 FROM {{ table }} PARTITION ({{ partition }}) LIMIT %(limit)s) AS r;
