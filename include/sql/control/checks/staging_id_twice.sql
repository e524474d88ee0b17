-- severity: warn
-- No id of the batch stands under two create_times, so that it would count twice. `make verify` looks at all minutes.
SELECT minute, event_id, create_time, first_create_time
FROM etl.staged_repeats
WHERE attempt = %(attempt)s
ORDER BY number;
