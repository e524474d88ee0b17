{% if fact.output %}
{% import "macros.jinja" as m %}
-- Contributions of the minutes of which an output has published rows and that have none yet: set-up runs it once, when a
-- summed fact comes to tables with rows.

INSERT INTO {{ fact.contributions }} (minute, {{ m.key(fact) }}, {{ m.contributed(fact) }})
SELECT s.minute, {{ m.of_row(fact) }}
FROM {{ published }} AS s
WHERE NOT EXISTS (SELECT 1 FROM {{ fact.contributions }} AS c WHERE c.minute = s.minute)
{{- m.grouped(fact) }};
{% endif %}
