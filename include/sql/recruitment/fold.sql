-- Folds the contributions of one hour of create_time into one row per fact key, at the hour's first minute. Runs under
-- the pipeline's lock. No fact changes: sums of sums, and the newest of the newest. Binds: hour, next_hour.

INSERT INTO recruitment.events_by_minute (
  minute, job_id, dates, hours, publisher_id, campaign_id, group_id, event_count, clicks, impressions, conversions,
  qualified, unqualified, bid_sum, bid_count, newest_create_time
)
SELECT
  d.minute, d.job_id, d.dates, d.hours, d.publisher_id, d.campaign_id, d.group_id, d.event_count, d.clicks,
  d.impressions, d.conversions, d.qualified, d.unqualified, d.bid_sum, d.bid_count, d.newest_create_time
FROM (
  SELECT
    %(hour)s AS minute, c.job_id, c.dates, c.hours, c.publisher_id, c.campaign_id, c.group_id,
    SUM(c.event_count) AS event_count, SUM(c.clicks) AS clicks, SUM(c.impressions) AS impressions,
    SUM(c.conversions) AS conversions, SUM(c.qualified) AS qualified, SUM(c.unqualified) AS unqualified,
    SUM(c.bid_sum) AS bid_sum, SUM(c.bid_count) AS bid_count, MAX(c.newest_create_time) AS newest_create_time
  FROM recruitment.events_by_minute AS c
  WHERE c.minute >= %(hour)s AND c.minute < %(next_hour)s
  GROUP BY c.job_id, c.dates, c.hours, c.publisher_id, c.campaign_id, c.group_id
) AS d
ON DUPLICATE KEY UPDATE
  event_count = d.event_count, clicks = d.clicks, impressions = d.impressions, conversions = d.conversions,
  qualified = d.qualified, unqualified = d.unqualified, bid_sum = d.bid_sum, bid_count = d.bid_count,
  newest_create_time = d.newest_create_time;

DELETE FROM recruitment.events_by_minute WHERE minute > %(hour)s AND minute < %(next_hour)s;
