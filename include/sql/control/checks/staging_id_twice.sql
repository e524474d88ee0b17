-- severity: warn
-- No id of the batch has two create_times: it would count twice. `./minutemark verify` checks all minutes.
SELECT minute, event_id, create_time, first_create_time
FROM etl.staged_repeats
WHERE attempt = %(attempt)s
ORDER BY number;
