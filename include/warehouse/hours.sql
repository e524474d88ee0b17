{# A lake whose clock is ahead does not reach an hour early. #}
{% macro bound(clock, at) %}LEAST({{ clock }}, {{ at }} + INTERVAL %(ahead)s MICROSECOND){% endmacro %}

{# The newest first, so that a backlog never delays the hour that has just ended. An hour is complete when its end and
the settle time have passed, none of its minutes is pending or waiting, and the gate after their merges has passed. An
hour that has just ended is announced at once. An older hour may still be merged, as in a backfill or an import. #}
{% macro due(to_announce) %}
{% set clock = bound("k.lake_clock", "CURRENT_TIMESTAMP(6)") %}
SELECT h.hour, h.version, h.announced_version, h.fact_hours FROM etl.looks AS k
STRAIGHT_JOIN etl.hours AS h FORCE INDEX (hours_to_announce)
  ON h.pipeline = %(pipeline)s AND h.to_announce = {{ to_announce }}
WHERE k.pipeline = %(pipeline)s
  AND h.hour <= {{ clock }} - INTERVAL 1 HOUR - INTERVAL %(settle)s MICROSECOND
  AND (
    h.announced_version IS NULL AND h.hour >= {{ clock }} - INTERVAL 1 HOUR - INTERVAL %(live)s MICROSECOND
    OR h.changed_since IS NULL
    OR h.changed_at <= CURRENT_TIMESTAMP(6) - INTERVAL %(quiet)s MICROSECOND
    OR h.changed_since <= CURRENT_TIMESTAMP(6) - INTERVAL %(longest)s MICROSECOND
  )
  AND NOT EXISTS (
    SELECT 1 FROM etl.minute_ledger AS l FORCE INDEX (PRIMARY)
    LEFT JOIN etl.batches AS b ON b.batch_id = l.batch_id
    WHERE l.pipeline = %(pipeline)s AND l.minute >= h.hour AND l.minute < h.hour + INTERVAL 1 HOUR
      AND (l.pending = 1 OR (l.state = 'held' AND l.waiting = 1) OR b.unchecked_since IS NOT NULL)
  )
ORDER BY h.hour DESC LIMIT %(limit)s
{%- endmacro %}

-- name: to_announce
-- Complete hours to announce, the newest first: one row per hour.
{{ due(1) }};

-- name: offered
-- Complete hours that were offered to Airflow, the newest first: one row per hour.
{{ due(2) }};

-- name: reached
-- The lake's clock at the last poll, and now: one row.
SELECT {{ bound("lake_clock", "looked_at") }}, {{ bound("CAST(%(clock)s AS DATETIME(6))", "CURRENT_TIMESTAMP(6)") }}
FROM etl.looks WHERE pipeline = %(pipeline)s;

-- name: add_hour
-- Adds an hour that is not known yet.
INSERT INTO etl.hours (pipeline, hour) VALUES (%(pipeline)s, %(hour)s)
ON DUPLICATE KEY UPDATE pipeline = VALUES(pipeline);

-- name: unchecked
-- Batches whose gate after the merge has not passed for a while, oldest first: one row per batch.
SELECT batch_id FROM etl.batches FORCE INDEX (unchecked)
WHERE pipeline = %(pipeline)s AND unchecked_since <= CURRENT_TIMESTAMP(6) - INTERVAL %(unchecked)s MICROSECOND
ORDER BY unchecked_since LIMIT %(limit)s;

-- name: offers
-- Hours whose offer is neither confirmed nor withdrawn: one row per hour.
SELECT hour, offered_version AS version, offered_at FROM etl.hours FORCE INDEX (hours_to_announce)
WHERE pipeline = %(pipeline)s AND to_announce = 2 ORDER BY hour;

-- name: announce
-- Marks an offered version as announced.
UPDATE etl.hours SET announced_version = offered_version, announced_at = CURRENT_TIMESTAMP(6),
  changed_since = CASE WHEN version = offered_version THEN NULL ELSE offered_at END
WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND offered_version = %(version)s;

-- name: withdraw
-- Withdraws an offered version that Airflow has not recorded.
UPDATE etl.hours SET offered_version = announced_version
WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND offered_version = %(version)s;

-- name: offer
-- Records the version of an hour that a task is about to announce.
UPDATE etl.hours SET offered_version = %(version)s, offered_at = CURRENT_TIMESTAMP(6), fact_hours = %(fact_hours)s
WHERE pipeline = %(pipeline)s AND hour = %(hour)s;

-- name: minutes_of_hour
-- The minutes of an hour with their counts: one row per minute.
SELECT minute, state, raw_rows, counted_rows, ignored_rows, rejected_rows FROM etl.minute_ledger
WHERE pipeline = %(pipeline)s AND minute >= %(start)s AND minute < %(end)s ORDER BY minute;

-- name: fact_hours
-- Hours of a fact that rows of some minutes add to: one row per hour.
SELECT DISTINCT {{ fact.hour_sql }} FROM {{ fact.contributions }} WHERE minute >= %(start)s AND minute < %(end)s;

-- name: figures
-- The measures of a fact in each of these hours: one row per hour.
SELECT hour
  {%- for measure in fact.measures %}, {{ measure.combine }}({{ measure.fact_column }}) AS {{ measure.fact_column }}
  {%- endfor %}

FROM {{ fact.table }} WHERE hour IN (%(hours)s) GROUP BY hour ORDER BY hour;
