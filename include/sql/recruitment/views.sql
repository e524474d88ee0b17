-- What dashboards show of recruitment: the facts with names for their keys. hour_utc is for filters, which find their rows
-- by index; hour is the same hour in the reporting zone, named by its beginning. Rates are sums divided by sums.

CREATE OR REPLACE VIEW recruitment.board_events AS
SELECT
  e.hour AS hour_utc,
  e.hour + INTERVAL COALESCE(
    CASE WHEN e.hour < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS hour,
  e.job_id,
  COALESCE(j.title, CONCAT('job ', e.job_id)) AS job,
  CASE WHEN e.company_id IS NULL THEN 'unknown' ELSE CONCAT('company ', e.company_id) END AS company,
  CASE WHEN e.campaign_id = 0 THEN 'none' ELSE CONCAT('campaign ', e.campaign_id) END AS campaign,
  CASE WHEN e.publisher_id = 0 THEN 'none' ELSE CONCAT('publisher ', e.publisher_id) END AS publisher,
  e.impressions,
  e.clicks,
  e.conversion AS conversions,
  e.qualified_application AS qualified,
  e.disqualified_application AS disqualified,
  e.qualified_application + e.disqualified_application AS applications,
  e.spend_hour AS spend
FROM recruitment.events AS e
LEFT JOIN recruitment.job AS j ON j.id = e.job_id
LEFT JOIN etl.reporting_days AS z ON z.day = e.dates;

-- What each minute of create_time adds to each hour of ts, for whoever counts a board's figure again from raw rows: a filter
-- by minute finds its rows by the primary key. Both times are in UTC alone.
CREATE OR REPLACE VIEW recruitment.board_contributions AS
SELECT
  c.minute AS minute_utc,
  CAST(c.dates AS DATETIME) + INTERVAL c.hours HOUR AS hour_utc,
  c.clicks,
  c.bid_sum AS spend
FROM recruitment.events_by_minute AS c;
