-- Updates the facts of imported jobs: runs after their upsert, in the same transaction, under the pipeline's lock.
-- Bind: keys, the jobs' ids as a JSON list.

UPDATE (
  SELECT j.id, j.company_id
  FROM JSON_TABLE(%(keys)s, '$[*]' COLUMNS (id BIGINT PATH '$')) AS k
  STRAIGHT_JOIN recruitment.job AS j ON j.id = k.id
) AS d
STRAIGHT_JOIN recruitment.events AS f ON f.job_id = d.id
SET f.company_id = d.company_id
WHERE NOT (f.company_id <=> d.company_id);
