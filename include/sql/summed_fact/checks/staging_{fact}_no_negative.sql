{% if not fact.output %}
{% import "macros.jinja" as m %}
-- severity: fail
-- Every contribution to {{ fact.table }} has at least one event, and no negative sum
{%- if fact.measures | selectattr("signed") | list %}, except of signed measures{% endif %}.
SELECT minute, {{ m.key(fact) }}, {{ m.contributed(fact) }}
FROM {{ fact.staging }}
WHERE attempt = %(attempt)s AND (event_count < 1
{%- for measure in fact.measures if measure.combine == "SUM" and not measure.signed %}
 OR {{ measure.name }} < 0
{%- endfor %});
{% endif %}
