{% set added = fact.measures | selectattr("added") | list %}
{% if added %}
-- Every contribution has all added measures; if it lacks one, its minute must be read again.
-- table: {{ fact.contributions }}
SELECT
  c.minute
  {%- for measure in added %}
, COUNT(*) AS expected_{{ measure.name }}, COUNT(c.{{ measure.name }}) AS found_{{ measure.name }}
  {%- endfor %}

FROM {{ fact.contributions }} AS c
WHERE c.minute >= %(start)s AND c.minute < %(end)s
GROUP BY c.minute
HAVING COUNT(*) > LEAST({% for measure in added %}COUNT(c.{{ measure.name }}), {% endfor %}COUNT(*));
{% endif %}
