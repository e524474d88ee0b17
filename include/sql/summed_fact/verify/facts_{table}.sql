-- Every row of {{ fact.table }} is the sum of its contributions: none differs, is missing, or has no contributions.
-- table: {{ fact.table }}
-- remedy: {again}. If a fact without contributions is still there afterwards, no event supports it: delete it.
{% import "macros.jinja" as m %}
{% set first = fact.key[0].name %}

-- The end of the slice of keys after `after`; NULL for the last slice. Each half reads an index: otherwise, every
-- slice would read the whole table.
SELECT MIN(ends.{{ first }}) AS upto
FROM (
  (SELECT {{ first }} FROM {{ fact.contributions }} WHERE %(after)s IS NULL OR {{ first }} > %(after)s
   ORDER BY {{ first }} LIMIT 1 OFFSET %(slice_rows)s)
  UNION ALL
  (SELECT {{ first }} FROM {{ fact.table }} WHERE %(after)s IS NULL OR {{ first }} > %(after)s
   ORDER BY {{ first }} LIMIT 1 OFFSET %(slice_rows)s)
) AS ends;

{% call(half) m.compared(fact, "expected", true) %}
{% if half == "sums" %}
    SELECT
      MIN(c.minute) AS minute, MAX(c.minute) AS last_minute, {{ m.key(fact, "c") }},
      {{ m.totals(fact, "c", fact.summed) }}
    FROM {{ fact.contributions }} AS c FORCE INDEX (by_fact)
    WHERE (%(after)s IS NULL OR c.{{ first }} > %(after)s) AND (%(upto)s IS NULL OR c.{{ first }} <= %(upto)s)
    GROUP BY {{ m.key(fact, "c") }}
{%- else %}
  FROM {{ fact.table }} AS f
  WHERE (%(after)s IS NULL OR f.{{ first }} > %(after)s) AND (%(upto)s IS NULL OR f.{{ first }} <= %(upto)s)
{%- endif %}
{% endcall %};
