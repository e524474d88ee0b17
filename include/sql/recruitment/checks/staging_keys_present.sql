-- severity: fail
-- Every contribution has a job, an hour from 0 to 23, and no negative publisher, campaign or group.
SELECT minute, job_id, dates, hours, publisher_id, campaign_id, group_id
FROM recruitment.events_staged
WHERE attempt = %(attempt)s
  AND (job_id <= 0 OR hours NOT BETWEEN 0 AND 23 OR LEAST(publisher_id, campaign_id, group_id) < 0);
