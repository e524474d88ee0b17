-- Every fact is what the contributions of its key add up to: none has other values, none is missing, none stands alone.
-- table: recruitment.events
-- remedy: {again}: which of its minutes is wrong, the fact does not say. A fact that is found where nothing is expected, and stays, has no event behind it: delete it by hand.

-- Where the slice of jobs behind `after` ends; NULL for the last one. By index, or each slice would read the whole table.
SELECT MIN(ends.job_id) AS upto
FROM (
  (SELECT job_id FROM recruitment.events_by_minute WHERE %(after)s IS NULL OR job_id > %(after)s
   ORDER BY job_id LIMIT 1 OFFSET %(slice_rows)s)
  UNION ALL
  (SELECT job_id FROM recruitment.events WHERE %(after)s IS NULL OR job_id > %(after)s
   ORDER BY job_id LIMIT 1 OFFSET %(slice_rows)s)
) AS ends;

SELECT
  d.minute, d.last_minute, d.job_id, d.dates, d.hours, d.publisher_id, d.campaign_id, d.group_id,
  d.clicks AS expected_clicks, f.clicks AS found_clicks,
  d.impressions AS expected_impressions, f.impressions AS found_impressions,
  d.conversions AS expected_conversion, f.conversion AS found_conversion,
  d.qualified AS expected_qualified_application, f.qualified_application AS found_qualified_application,
  d.unqualified AS expected_disqualified_application, f.disqualified_application AS found_disqualified_application,
  d.bid_sum AS expected_bid_sum, f.bid_sum AS found_bid_sum,
  d.bid_count AS expected_bid_count, f.bid_count AS found_bid_count,
  d.bid_set AS expected_bid_set, f.bid_set AS found_bid_set,
  d.bid_sum AS expected_spend_hour, f.spend_hour AS found_spend_hour,
  j.company_id AS expected_company_id, f.company_id AS found_company_id,
  'Cassandra' AS expected_sources, f.sources AS found_sources,
  d.newest_create_time AS expected_latest_update_time, f.latest_update_time AS found_latest_update_time
FROM (
  SELECT
    MIN(c.minute) AS minute, MAX(c.minute) AS last_minute,
    c.job_id, c.dates, c.hours, c.publisher_id, c.campaign_id, c.group_id,
    SUM(c.clicks) AS clicks, SUM(c.impressions) AS impressions, SUM(c.conversions) AS conversions,
    SUM(c.qualified) AS qualified, SUM(c.unqualified) AS unqualified, SUM(c.bid_sum) AS bid_sum,
    SUM(c.bid_count) AS bid_count, MAX(c.newest_create_time) AS newest_create_time,
    CAST(CASE WHEN SUM(c.bid_count) > 0 THEN SUM(c.bid_sum) / SUM(c.bid_count) END AS DECIMAL(30, 6)) AS bid_set
  FROM recruitment.events_by_minute AS c FORCE INDEX (by_fact)
  WHERE (%(after)s IS NULL OR c.job_id > %(after)s) AND (%(upto)s IS NULL OR c.job_id <= %(upto)s)
  GROUP BY c.job_id, c.dates, c.hours, c.publisher_id, c.campaign_id, c.group_id
) AS d
LEFT JOIN recruitment.events AS f
  ON f.job_id = d.job_id AND f.dates = d.dates AND f.hours = d.hours
  AND f.publisher_id = d.publisher_id AND f.campaign_id = d.campaign_id AND f.group_id = d.group_id
LEFT JOIN recruitment.job AS j ON j.id = d.job_id
WHERE NOT (f.clicks <=> d.clicks AND f.impressions <=> d.impressions AND f.conversion <=> d.conversions
  AND f.qualified_application <=> d.qualified AND f.disqualified_application <=> d.unqualified
  AND f.bid_sum <=> d.bid_sum AND f.bid_count <=> d.bid_count AND f.bid_set <=> d.bid_set
  AND f.spend_hour <=> d.bid_sum AND f.company_id <=> j.company_id AND f.sources <=> 'Cassandra'
  AND f.latest_update_time <=> d.newest_create_time)
UNION ALL
SELECT
  CAST(f.latest_update_time - INTERVAL EXTRACT(SECOND_MICROSECOND FROM f.latest_update_time) MICROSECOND AS DATETIME),
  NULL, f.job_id, f.dates, f.hours, f.publisher_id, f.campaign_id, f.group_id,
  NULL, f.clicks, NULL, f.impressions, NULL, f.conversion, NULL, f.qualified_application, NULL,
  f.disqualified_application, NULL, f.bid_sum, NULL, f.bid_count, NULL, f.bid_set, NULL, f.spend_hour, NULL,
  f.company_id, NULL, f.sources, NULL, f.latest_update_time
FROM recruitment.events AS f
WHERE (%(after)s IS NULL OR f.job_id > %(after)s) AND (%(upto)s IS NULL OR f.job_id <= %(upto)s)
  AND NOT EXISTS (
    SELECT 1 FROM recruitment.events_by_minute AS c FORCE INDEX (by_fact)
    WHERE (%(after)s IS NULL OR c.job_id > %(after)s) AND (%(upto)s IS NULL OR c.job_id <= %(upto)s)
      AND c.job_id = f.job_id AND c.dates = f.dates AND c.hours = f.hours
      AND c.publisher_id = f.publisher_id AND c.campaign_id = f.campaign_id AND c.group_id = f.group_id
  );
