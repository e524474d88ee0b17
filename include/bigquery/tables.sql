-- name: newest_versions
-- BigQuery: the newest counts of each hour, one row per hour.
SELECT hour, attempt, {{ measures | join(", ") }}, counted_at FROM `{{ table }}` WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY hour ORDER BY attempt DESC, counted_at DESC) = 1;
