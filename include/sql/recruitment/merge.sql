-- Publishes the planned minutes of a batch: runs inside the merge, under the pipeline's lock. Absolute values only.
-- Binds: batch_id, attempt, oldest_kept_batch. STRAIGHT_JOIN: from the few minutes or keys to the large table, by index.
-- What a joined DELETE empties has no alias: MariaDB would look for it in a default database, and there is none.

DELETE FROM recruitment.events_touched WHERE batch_id = %(batch_id)s;

-- Fact keys that lose or gain a contribution.
INSERT INTO recruitment.events_touched (batch_id, job_id, dates, hours, publisher_id, campaign_id, group_id)
SELECT %(batch_id)s, k.job_id, k.dates, k.hours, k.publisher_id, k.campaign_id, k.group_id
FROM (
  SELECT c.job_id, c.dates, c.hours, c.publisher_id, c.campaign_id, c.group_id
  FROM etl.batch_minutes AS m
  STRAIGHT_JOIN recruitment.events_by_minute AS c ON c.minute = m.minute
  WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
  UNION
  SELECT s.job_id, s.dates, s.hours, s.publisher_id, s.campaign_id, s.group_id
  FROM etl.batch_minutes AS m
  STRAIGHT_JOIN recruitment.events_staged AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
  WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
) AS k;

DELETE recruitment.events_by_minute
FROM etl.batch_minutes AS m
STRAIGHT_JOIN recruitment.events_by_minute ON events_by_minute.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO recruitment.events_by_minute (
  minute, job_id, dates, hours, publisher_id, campaign_id, group_id, event_count, clicks, impressions, conversions,
  qualified, unqualified, bid_sum, bid_count, newest_create_time
)
SELECT
  s.minute, s.job_id, s.dates, s.hours, s.publisher_id, s.campaign_id, s.group_id, s.event_count, s.clicks,
  s.impressions, s.conversions, s.qualified, s.unqualified, s.bid_sum, s.bid_count, s.newest_create_time
FROM etl.batch_minutes AS m
STRAIGHT_JOIN recruitment.events_staged AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

-- Facts left empty.
DELETE recruitment.events
FROM recruitment.events_touched AS t
STRAIGHT_JOIN recruitment.events FORCE INDEX (PRIMARY)
  ON events.job_id = t.job_id AND events.dates = t.dates AND events.hours = t.hours
  AND events.publisher_id = t.publisher_id AND events.campaign_id = t.campaign_id AND events.group_id = t.group_id
WHERE t.batch_id = %(batch_id)s AND NOT EXISTS (
  SELECT 1 FROM recruitment.events_by_minute AS c
  WHERE c.job_id = t.job_id AND c.dates = t.dates AND c.hours = t.hours
    AND c.publisher_id = t.publisher_id AND c.campaign_id = t.campaign_id AND c.group_id = t.group_id
);

INSERT INTO recruitment.events (
  job_id, dates, hours, publisher_id, campaign_id, group_id, company_id, disqualified_application,
  qualified_application, conversion, clicks, impressions, bid_sum, bid_count, spend_hour, sources, latest_update_time
)
SELECT
  d.job_id, d.dates, d.hours, d.publisher_id, d.campaign_id, d.group_id, j.company_id, d.unqualified,
  d.qualified, d.conversions, d.clicks, d.impressions, d.bid_sum, d.bid_count, d.bid_sum, 'Cassandra', d.newest_create_time
FROM (
  SELECT
    t.job_id, t.dates, t.hours, t.publisher_id, t.campaign_id, t.group_id,
    SUM(c.unqualified) AS unqualified, SUM(c.qualified) AS qualified, SUM(c.conversions) AS conversions,
    SUM(c.clicks) AS clicks, SUM(c.impressions) AS impressions, SUM(c.bid_sum) AS bid_sum,
    SUM(c.bid_count) AS bid_count, MAX(c.newest_create_time) AS newest_create_time
  FROM recruitment.events_touched AS t
  STRAIGHT_JOIN recruitment.events_by_minute AS c
    ON c.job_id = t.job_id AND c.dates = t.dates AND c.hours = t.hours
    AND c.publisher_id = t.publisher_id AND c.campaign_id = t.campaign_id AND c.group_id = t.group_id
  WHERE t.batch_id = %(batch_id)s
  GROUP BY t.job_id, t.dates, t.hours, t.publisher_id, t.campaign_id, t.group_id
) AS d
LEFT JOIN recruitment.job AS j ON j.id = d.job_id
ON DUPLICATE KEY UPDATE
  company_id = j.company_id, disqualified_application = d.unqualified, qualified_application = d.qualified,
  conversion = d.conversions, clicks = d.clicks, impressions = d.impressions, bid_sum = d.bid_sum,
  bid_count = d.bid_count, spend_hour = d.bid_sum, sources = 'Cassandra', latest_update_time = d.newest_create_time;

-- check_warehouse has long read those of older batches.
DELETE FROM recruitment.events_touched WHERE batch_id < %(oldest_kept_batch)s LIMIT 10000;
