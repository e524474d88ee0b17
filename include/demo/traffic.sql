-- name: keys
-- The keys of a dimension: one row per key.
SELECT {{ dimension.key }} FROM {{ dimension.table }};
