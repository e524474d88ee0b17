-- Replaces the contributions of the planned minutes of a batch and sums the facts that they touch, inside the merge
-- and under the pipeline's lock. Writes totals, never increments. Binds: batch_id, attempt, oldest_kept_batch.
-- STRAIGHT_JOIN makes the server read the few minutes or keys first, and then the large table by index. The table of a
-- joined DELETE has no alias: MariaDB would look for the alias in the default database, and the session has none.
{% import "macros.jinja" as m %}
{% set contributions = fact.contributions.split(".")[1] %}
{% set table = fact.table.split(".")[1] %}

DELETE FROM {{ fact.touched }} WHERE batch_id = %(batch_id)s;

-- Fact keys that lose a contribution.
INSERT INTO {{ fact.touched }} (batch_id, {{ m.key(fact) }})
SELECT DISTINCT %(batch_id)s, {{ m.key(fact, "c") }}
FROM etl.batch_minutes AS m
STRAIGHT_JOIN {{ fact.contributions }} AS c ON c.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

DELETE {{ fact.contributions }}
FROM etl.batch_minutes AS m
STRAIGHT_JOIN {{ fact.contributions }} ON {{ contributions }}.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO {{ fact.contributions }} (minute, {{ m.key(fact) }}, {{ m.contributed(fact) }})
SELECT s.minute, {{ m.contribution_values(fact) }}
FROM etl.batch_minutes AS m
STRAIGHT_JOIN {{ staging }} AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
{{- m.group_by(fact) }};

-- Facts that are left without contributions.
DELETE {{ fact.table }}
FROM {{ fact.touched }} AS t
STRAIGHT_JOIN {{ fact.table }} FORCE INDEX (PRIMARY)
  ON {{ m.same(fact, table, "t") }}
WHERE t.batch_id = %(batch_id)s AND NOT EXISTS (
  SELECT 1 FROM {{ fact.contributions }} AS c
  WHERE {{ m.same(fact, "c", "t") }}
);

-- Fact keys that gain a contribution.
INSERT INTO {{ fact.touched }} (batch_id, {{ m.key(fact) }})
SELECT DISTINCT %(batch_id)s, {{ m.key(fact, "c") }}
FROM etl.batch_minutes AS m
STRAIGHT_JOIN {{ fact.contributions }} AS c ON c.minute = m.minute
LEFT JOIN {{ fact.touched }} AS t ON t.batch_id = %(batch_id)s AND {{ m.same(fact, "t", "c") }}
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned' AND t.batch_id IS NULL;

INSERT INTO {{ fact.table }} (
  {{ m.key(fact) }}
  {%- for measure in fact.summed %}, {{ measure.fact_column }}{% endfor %}
  {%- for derived in fact.derived %}, {{ derived.name }}{% endfor %}

)
SELECT
  {{ m.key(fact, "d") }}
  {%- for measure in fact.summed %}, d.{{ measure.name }}{% endfor %}
  {%- for derived in fact.derived %}, {{ derived.value }}{% endfor %}

FROM (
  SELECT {{ m.key(fact, "t") }}, {{ m.totals(fact, "c", fact.summed) }}
  FROM {{ fact.touched }} AS t
  STRAIGHT_JOIN {{ fact.contributions }} AS c FORCE INDEX (by_fact)
    ON {{ m.same(fact, "c", "t") }}
  WHERE t.batch_id = %(batch_id)s
  GROUP BY {{ m.key(fact, "t") }}
) AS d
{% if fact.joins %}
{{ fact.joins }}
{% endif %}
ON DUPLICATE KEY UPDATE
  {% for measure in fact.summed %}
{{ measure.fact_column }} = d.{{ measure.name }}{{ ", " if fact.derived or not loop.last else "" }}
  {%- endfor %}
  {%- for derived in fact.derived %}{{ derived.name }} = {{ derived.value }}{{ "" if loop.last else ", " }}{% endfor %};

-- Older batches were opened more than a day ago, and their check_warehouse has usually run.
DELETE FROM {{ fact.touched }} WHERE batch_id < %(oldest_kept_batch)s LIMIT 10000;
