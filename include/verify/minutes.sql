{# A table of contributions belongs to one pipeline. #}
{% macro of_pipeline() %}
{% if table in ("etl.minute_ledger", "etl.rejected_events") %}pipeline = %(pipeline)s{% else %}TRUE{% endif %}
{% endmacro %}

-- name: days
-- Days of the minutes that a table has: one row per day.
SELECT DISTINCT DATE(m.minute) FROM (
  SELECT DISTINCT minute FROM {{ table }} WHERE {{ of_pipeline() }} AND minute IS NOT NULL
) AS m;

-- name: minutes
-- The minutes of a range that a table has: one row per minute.
SELECT DISTINCT minute FROM {{ table }}
WHERE {{ of_pipeline() }} AND minute >= %(start)s AND minute < %(end)s;

-- name: contributions
-- How many rows a table of contributions has for a range of minutes: one row.
SELECT COUNT(*) FROM {{ table }} WHERE minute >= %(start)s AND minute < %(end)s;
