{% import "macros.jinja" as m %}
-- severity: fail
-- Each row of {{ fact.table }} that the batch touched is the sum of its contributions from all reads: no value
-- differs, and no row is missing or left over.
{% call(half) m.compared(fact, "contributed", false) %}
{% if half == "sums" %}
    SELECT {{ m.key(fact, "t") }}, {{ m.totals(fact, "c", fact.summed) }}
    FROM {{ fact.touched }} AS t
    STRAIGHT_JOIN {{ fact.contributions }} AS c FORCE INDEX (by_fact) ON {{ m.same(fact, "c", "t") }}
    WHERE t.batch_id = %(batch_id)s
    GROUP BY {{ m.key(fact, "t") }}
{%- else %}
  FROM {{ fact.touched }} AS t
  STRAIGHT_JOIN {{ fact.table }} AS f FORCE INDEX (PRIMARY) ON {{ m.same(fact, "f", "t") }}
  WHERE t.batch_id = %(batch_id)s
{%- endif %}
{% endcall %};
