-- severity: warn
-- Warns about jobs missing from recruitment.job: their facts have no company until
-- `./minutemark import job.csv --table job` adds them.
SELECT s.job_id, SUM(s.event_count) AS events
FROM recruitment.events_staged AS s
LEFT JOIN recruitment.job AS j ON j.id = s.job_id
WHERE s.attempt = %(attempt)s AND j.id IS NULL
GROUP BY s.job_id;
