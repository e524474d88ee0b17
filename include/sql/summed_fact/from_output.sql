{% if fact.output %}
{% import "macros.jinja" as m %}
-- Contributions of all rows that an output has published. Set-up runs this once, when a summed fact is added to an
-- output that has rows.

INSERT INTO {{ fact.contributions }} (minute, {{ m.key(fact) }}, {{ m.contributed(fact) }})
SELECT s.minute, {{ m.contribution_values(fact) }}
FROM {{ published }} AS s
{{- m.group_by(fact) }};
{% endif %}
