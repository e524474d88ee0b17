-- severity: fail
-- Each fact that the batch touched equals the sum of its contributions.
SELECT
  d.job_id, d.dates, d.hours, d.publisher_id, d.campaign_id, d.group_id,
  d.clicks AS contributed_clicks, f.clicks, d.impressions AS contributed_impressions, f.impressions,
  d.conversions AS contributed_conversions, f.conversion, d.qualified AS contributed_qualified, f.qualified_application,
  d.unqualified AS contributed_unqualified, f.disqualified_application, d.bid_sum AS contributed_bid_sum, f.spend_hour
FROM (
  SELECT
    t.job_id, t.dates, t.hours, t.publisher_id, t.campaign_id, t.group_id, SUM(c.clicks) AS clicks,
    SUM(c.impressions) AS impressions, SUM(c.conversions) AS conversions, SUM(c.qualified) AS qualified,
    SUM(c.unqualified) AS unqualified, SUM(c.bid_sum) AS bid_sum, SUM(c.bid_count) AS bid_count
  FROM recruitment.events_touched AS t
  STRAIGHT_JOIN recruitment.events_by_minute AS c
    ON c.job_id = t.job_id AND c.dates = t.dates AND c.hours = t.hours
    AND c.publisher_id = t.publisher_id AND c.campaign_id = t.campaign_id AND c.group_id = t.group_id
  WHERE t.batch_id = %(batch_id)s
  GROUP BY t.job_id, t.dates, t.hours, t.publisher_id, t.campaign_id, t.group_id
) AS d
LEFT JOIN recruitment.events AS f
  ON f.job_id = d.job_id AND f.dates = d.dates AND f.hours = d.hours
  AND f.publisher_id = d.publisher_id AND f.campaign_id = d.campaign_id AND f.group_id = d.group_id
WHERE NOT (f.clicks <=> d.clicks AND f.impressions <=> d.impressions AND f.conversion <=> d.conversions
  AND f.qualified_application <=> d.qualified AND f.disqualified_application <=> d.unqualified
  AND f.bid_sum <=> d.bid_sum AND f.bid_count <=> d.bid_count AND f.spend_hour <=> d.bid_sum);
