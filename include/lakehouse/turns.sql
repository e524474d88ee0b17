{% macro due() %}
SELECT hour, changes, counted_change, counts, counted_at FROM etl.lakehouse_hours FORCE INDEX ({{ step.key }})
WHERE pipeline = %(pipeline)s AND {{ step.due }}
{%- endmacro %}

-- name: newest
-- The newest hours that are due for a step: one row per hour.
{{ due() }}
ORDER BY hour DESC LIMIT %(half)s;

-- name: least_recent
-- The hours that are due for a step and were tried longest ago: one row per hour.
{{ due() }}
ORDER BY {{ step.tried_at }}, hour DESC LIMIT %(limit)s;

-- name: tried
-- Records that hours were tried.
UPDATE etl.lakehouse_hours SET {{ step.tried_at }} = CURRENT_TIMESTAMP(6)
WHERE pipeline = %(pipeline)s AND hour IN (%(hours)s);
