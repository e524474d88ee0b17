-- severity: fail
-- No fact that the batch touched is left without a contribution.
SELECT f.job_id, f.dates, f.hours, f.publisher_id, f.campaign_id, f.group_id
FROM recruitment.events_touched AS t
STRAIGHT_JOIN recruitment.events AS f
  ON f.job_id = t.job_id AND f.dates = t.dates AND f.hours = t.hours
  AND f.publisher_id = t.publisher_id AND f.campaign_id = t.campaign_id AND f.group_id = t.group_id
WHERE t.batch_id = %(batch_id)s AND NOT EXISTS (
  SELECT 1 FROM recruitment.events_by_minute AS c
  WHERE c.job_id = t.job_id AND c.dates = t.dates AND c.hours = t.hours
    AND c.publisher_id = t.publisher_id AND c.campaign_id = t.campaign_id AND c.group_id = t.group_id
);
