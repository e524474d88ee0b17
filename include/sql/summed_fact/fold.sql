-- Folds the contributions of one hour of create_time into one row per fact key, at the hour's first minute. Runs under
-- the pipeline's lock. No fact changes: summing sums gives the same sum, and the newest time stays the newest. Binds:
-- hour, next_hour.
{% import "macros.jinja" as m %}

INSERT INTO {{ fact.contributions }} (minute, {{ m.key(fact) }}, {{ m.contributed(fact) }})
SELECT d.minute, {{ m.key(fact, "d") }}, {{ m.contributed(fact, "d") }}
FROM (
  SELECT
    %(hour)s AS minute, {{ m.key(fact, "c") }}, SUM(c.event_count) AS event_count,
    {{ m.totals(fact, "c", fact.measures) }}
  FROM {{ fact.contributions }} AS c
  WHERE c.minute >= %(hour)s AND c.minute < %(next_hour)s
  GROUP BY {{ m.key(fact, "c") }}
) AS d
ON DUPLICATE KEY UPDATE
  event_count = d.event_count{% for measure in fact.measures %}, {{ measure.name }} = d.{{ measure.name }}{% endfor %};

DELETE FROM {{ fact.contributions }} WHERE minute > %(hour)s AND minute < %(next_hour)s;
