-- Views for BI tools: Tableau, Power BI, Looker. A comment gives the type and meaning of each column; all other
-- descriptions of the columns come from here (include/warehouse/bi_views.py). No column is NULL. The boards have their
-- own views.

-- One row per hour, job, publisher, campaign and group.
CREATE OR REPLACE VIEW recruitment.bi_events AS
SELECT
  -- DATETIME: Start of the hour of the events (`ts`), UTC. Filter by this column.
  e.hour AS hour_utc,
  -- DATETIME: The same hour in the reporting time zone. For display.
  e.hour + INTERVAL COALESCE(
    CASE WHEN e.hour < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS hour_local,
  -- BIGINT: Job.
  e.job_id,
  -- VARCHAR(500): Title of the job; if the job table has none, `job` and its number, such as `job 258`.
  COALESCE(j.title, CONCAT('job ', e.job_id)) AS job_title,
  -- VARCHAR(40): Status of the job; `unknown` where the job table has none.
  COALESCE(j.status, 'unknown') AS job_status,
  -- BIGINT: Company of the job; 0 where the job table has none.
  COALESCE(e.company_id, 0) AS company_id,
  -- BIGINT: Publisher that the events came through; 0 if unknown.
  e.publisher_id,
  -- BIGINT: Campaign that the events name; 0 if unknown. The boards then take the campaign of the job.
  e.campaign_id,
  -- BIGINT: Job group of the events; 0 if unknown.
  e.group_id,
  -- BIGINT: Page views.
  e.impressions,
  -- BIGINT: Clicks on the job.
  e.clicks,
  -- BIGINT: Conversions.
  e.conversion AS conversions,
  -- BIGINT: Applications that were qualified.
  e.qualified_application AS qualified_applications,
  -- BIGINT: Applications that were disqualified.
  e.disqualified_application AS disqualified_applications,
  -- BIGINT: Qualified and disqualified applications.
  e.qualified_application + e.disqualified_application AS applications,
  -- BIGINT: Clicks with a bid. The average bid is SUM(spend) / SUM(paid_clicks).
  e.bid_count AS paid_clicks,
  -- DECIMAL(30, 6): Sum of the bids of clicks.
  e.spend_hour AS spend,
  -- DATETIME(6): Time of the newest event in this row (`create_time`), UTC.
  e.latest_update_time AS newest_event_at
FROM recruitment.events AS e
LEFT JOIN recruitment.job AS j ON j.id = e.job_id
LEFT JOIN etl.reporting_days AS z ON z.day = e.dates;
