{# A reason without the values of its row: the sentence before the colon, without quoted values and line numbers. #}
{% macro rule() %}
SUBSTRING_INDEX(REGEXP_REPLACE(REGEXP_REPLACE(REGEXP_REPLACE(
    reason, '''[^'']*''', '…'), '"[^"]*"', '…'), '^line [0-9]+', 'line …'), ': ', 1)
{%- endmacro %}
{% macro chosen() %}
(%(reason)s IS NULL OR {{ rule() }} = %(reason)s OR LEFT(reason, CHAR_LENGTH(%(reason)s)) = %(reason)s)
  AND (%(start)s IS NULL OR minute >= %(start)s) AND (%(end)s IS NULL OR minute < %(end)s)
{%- endmacro %}

-- name: by_reason
-- Chosen rejected events of a pipeline, those of the newest minutes if there is a limit: one row per origin and rule.
SELECT pipeline, origin, {{ rule() }} AS rule, COUNT(*) AS found, COUNT(DISTINCT minute) AS minutes,
  MIN(minute) AS first_minute, MAX(minute) AS last_minute, MAX(rejected_at) AS newest,
  MIN(origin_key) AS first_key, MAX(origin_key) AS last_key
FROM (
  SELECT pipeline, origin, origin_key, minute, reason, rejected_at FROM {{ table }}
  WHERE pipeline = %(pipeline)s AND {{ chosen() }}
  {{ "ORDER BY minute DESC LIMIT %(limit)s" if limited }}
) AS chosen
GROUP BY pipeline, origin, rule ORDER BY found DESC, rule;

-- name: samples
-- The first and the last event of a group, with or without the beginning of its payload: one row per event.
SELECT origin_key, minute, reason {{- ", LEFT(payload, %(shown)s) AS payload" if payloads }} FROM {{ table }}
WHERE pipeline = %(pipeline)s AND origin = %(origin)s AND origin_key IN (%(first_key)s, %(last_key)s)
ORDER BY origin_key;

-- name: rename_key
-- Adds the topic's id to the key of a message that an earlier version kept without it. Old payloads are empty.
UPDATE IGNORE etl.rejected_events SET origin_key = %(key)s
WHERE pipeline = %(pipeline)s AND origin = %(origin)s AND origin_key = %(former)s AND payload IN (%(payload)s, '');

-- name: keep
-- Keeps a rejected event, or its newest reason and time: when a source is read again, its other events get new times, too.
INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload, rejected_at)
VALUES (%(pipeline)s, %(origin)s, %(origin_key)s, %(minute)s, %(reason)s, %(payload)s,
  COALESCE(%(rejected_at)s, CURRENT_TIMESTAMP(6)))
ON DUPLICATE KEY UPDATE minute = VALUES(minute), reason = VALUES(reason), payload = VALUES(payload),
  rejected_at = GREATEST(rejected_at, VALUES(rejected_at));

-- name: kept_keys
-- The origin keys among these that are kept: one row per key.
SELECT origin_key FROM etl.rejected_events
WHERE pipeline = %(pipeline)s AND origin = %(origin)s
  AND origin_key IN (%(keys)s);

-- name: lake_keys
-- Chosen rejected events of the lake: one row per event.
SELECT minute, origin_key FROM etl.rejected_events
WHERE pipeline = %(pipeline)s AND origin = 'lake' AND {{ chosen() }};

-- name: lake_keys_of
-- Rejected events of the lake in these minutes: one row per event.
SELECT minute, origin_key FROM etl.rejected_events
WHERE pipeline = %(pipeline)s AND origin = 'lake' AND minute IN (%(minutes)s);

-- name: imported
-- Chosen rejected events of imports and topics, with their length and source, in the order of their source: one row per
-- event. The rows of a chunk have the same time, and their keys end with a line or an offset.
SELECT rejected_id, CHAR_LENGTH(payload), SUBSTRING_INDEX(origin_key, ':', 1) FROM etl.rejected_events
WHERE pipeline = %(pipeline)s AND origin IN ('import', 'kafka') AND {{ chosen() }}
ORDER BY rejected_at, CHAR_LENGTH(origin_key), origin_key;

-- name: stored
-- Rejected events by id, in the order of their source: one row per event.
SELECT rejected_id, reason, minute, payload, rejected_at FROM etl.rejected_events
WHERE rejected_id IN (%(ids)s) ORDER BY rejected_at, CHAR_LENGTH(origin_key), origin_key;

