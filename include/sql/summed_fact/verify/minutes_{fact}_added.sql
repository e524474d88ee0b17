{% set added = fact.measures | selectattr("added") | list %}
{% if added %}
-- Every contribution has the measures that were added later; read the listed minutes again.
-- table: {{ fact.contributions }}
SELECT
  c.minute
  {%- for one in added %}
, COUNT(*) AS expected_{{ one.name }}, COUNT(c.{{ one.name }}) AS found_{{ one.name }}
  {%- endfor %}

FROM {{ fact.contributions }} AS c
WHERE c.minute >= %(start)s AND c.minute < %(end)s
GROUP BY c.minute
HAVING COUNT(*) > LEAST({% for one in added %}COUNT(c.{{ one.name }}), {% endfor %}COUNT(*));
{% endif %}
