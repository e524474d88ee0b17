-- Views for dashboards of recruitment: the facts with names for their keys. hour_utc is for filters, which find their
-- rows by index; hour is the same hour in the reporting zone, named by its start. Rates are sums divided by sums. An
-- event without a campaign counts for the campaign of its job, as in the decisions below.

CREATE OR REPLACE VIEW recruitment.board_events AS
SELECT
  e.hour AS hour_utc,
  e.hour + INTERVAL COALESCE(
    CASE WHEN e.hour < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS hour,
  e.job_id,
  COALESCE(j.title, CONCAT('job ', e.job_id)) AS job,
  CASE WHEN e.company_id IS NULL THEN 'unknown' ELSE CONCAT('company ', e.company_id) END AS company,
  COALESCE(CONCAT('campaign ', COALESCE(NULLIF(e.campaign_id, 0), NULLIF(j.campaign_id, 0))), 'none') AS campaign,
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

-- What each minute of create_time adds to each hour of ts, to check a board's figure against raw rows. A filter by
-- minute finds its rows by the primary key. Both times are in UTC only.
CREATE OR REPLACE VIEW recruitment.board_contributions AS
SELECT
  c.minute AS minute_utc,
  CAST(c.dates AS DATETIME) + INTERVAL c.hours HOUR AS hour_utc,
  c.clicks,
  c.bid_sum AS spend
FROM recruitment.events_by_minute AS c;

-- The two weeks that each decision is based on, in 14 spans of 24 full hours: days_ago 0 ends with the last full hour,
-- UTC, so the current hour is in none of them. A fact without a campaign counts for the campaign of its job.
CREATE OR REPLACE VIEW recruitment.board_cost_days AS
WITH days AS (
  SELECT
    COALESCE(NULLIF(e.campaign_id, 0), j.campaign_id, 0) AS campaign_id,
    e.publisher_id,
    (TIMESTAMPDIFF(HOUR, e.hour, UTC_DATE() + INTERVAL HOUR(UTC_TIME()) HOUR) - 1) DIV 24 AS days_ago,
    SUM(e.spend_hour) AS spend,
    SUM(e.clicks) AS clicks,
    SUM(e.qualified_application + e.disqualified_application) AS applications,
    SUM(e.qualified_application) AS qualified
  FROM recruitment.events AS e FORCE INDEX (by_time)
  LEFT JOIN recruitment.job AS j ON j.id = e.job_id
  WHERE e.hour >= UTC_DATE() + INTERVAL HOUR(UTC_TIME()) - 336 HOUR
    AND e.hour < UTC_DATE() + INTERVAL HOUR(UTC_TIME()) HOUR
  GROUP BY 1, 2, 3
)
SELECT
  k.kind,
  CASE k.kind WHEN 'campaign' THEN d.campaign_id ELSE d.publisher_id END AS id,
  d.days_ago, d.spend, d.clicks, d.applications, d.qualified
FROM days AS d
CROSS JOIN (SELECT 'campaign' AS kind UNION ALL SELECT 'publisher') AS k;

-- Which campaigns and publishers to raise, watch or stop: the cost of a qualified application, by campaign and by
-- publisher, in the last 7 x 24 full hours and in the 168 hours before them. Rates are sums divided by sums.
--
-- The first rule that applies decides. `average` is the cost of all other named campaigns (publishers) in both weeks.
-- 1. watch: the row `none`, events without a campaign (publisher). Nobody can raise or stop it.
-- 2. watch: no spend in the last week.
-- 3. watch: more than 20 % of the qualified applications of both weeks name no campaign (publisher): costs mislead.
-- 4. watch: no average. The others have fewer than 60 qualified applications in both weeks, or no spend.
-- 5. stop: even with one more qualified application, the cost would be 3 times the average or more in the last week.
-- 6. watch: fewer than 60 qualified applications in both weeks together, too few to judge.
-- 7. watch: no cost in one of the weeks, because it has no spend or no qualified application.
-- 8. raise: the cost fell by at least 25 %, the change is significant (chance would explain it in at most 1 of 20
--    cases), and the cost is not above average.
-- 9. stop: the cost rose by at least 50 %, the change is significant (chance would explain it in at most 1 of 20 cases),
--    and the cost is above average.
-- 10. watch: everything else.
-- Chance: the logarithm of the ratio of two costs has a standard deviation of about the square root of (1/qualified +
-- 1/qualified_before). By chance it exceeds 1.64 standard deviations in one direction in 5 % of all cases.
CREATE OR REPLACE VIEW recruitment.board_decisions AS
WITH rule AS (
  SELECT 0.20 AS most_unnamed, 3 AS averages, 60 AS enough, 1.64 AS deviations, -0.25 AS raise_from, 0.50 AS stop_from
),
sums AS (
  SELECT
    d.kind, d.id,
    SUM(CASE WHEN d.days_ago < 7 THEN d.spend ELSE 0 END) AS spend,
    SUM(CASE WHEN d.days_ago < 7 THEN d.clicks ELSE 0 END) AS clicks,
    SUM(CASE WHEN d.days_ago < 7 THEN d.applications ELSE 0 END) AS applications,
    SUM(CASE WHEN d.days_ago < 7 THEN d.qualified ELSE 0 END) AS qualified,
    SUM(CASE WHEN d.days_ago < 7 THEN 0 ELSE d.spend END) AS spend_before,
    SUM(CASE WHEN d.days_ago < 7 THEN 0 ELSE d.clicks END) AS clicks_before,
    SUM(CASE WHEN d.days_ago < 7 THEN 0 ELSE d.applications END) AS applications_before,
    SUM(CASE WHEN d.days_ago < 7 THEN 0 ELSE d.qualified END) AS qualified_before
  FROM recruitment.board_cost_days AS d
  GROUP BY d.kind, d.id
),
costs AS (
  SELECT
    s.*,
    s.spend / NULLIF(s.qualified, 0) AS cost,
    s.spend_before / NULLIF(s.qualified_before, 0) AS cost_before,
    (s.spend / NULLIF(s.qualified, 0)) / NULLIF(s.spend_before / NULLIF(s.qualified_before, 0), 0) - 1
      AS cost_change,
    SUM(CASE WHEN s.id <> 0 THEN s.spend + s.spend_before ELSE 0 END) OVER (PARTITION BY s.kind)
      - CASE WHEN s.id <> 0 THEN s.spend + s.spend_before ELSE 0 END AS spend_of_others,
    SUM(CASE WHEN s.id <> 0 THEN s.qualified + s.qualified_before ELSE 0 END) OVER (PARTITION BY s.kind)
      - CASE WHEN s.id <> 0 THEN s.qualified + s.qualified_before ELSE 0 END AS qualified_of_others,
    SUM(CASE WHEN s.id = 0 THEN s.qualified + s.qualified_before ELSE 0 END) OVER (PARTITION BY s.kind)
      / NULLIF(SUM(s.qualified + s.qualified_before) OVER (PARTITION BY s.kind), 0) AS unnamed
  FROM sums AS s
),
compared AS (
  SELECT
    c.*, r.*,
    CASE WHEN c.qualified_of_others >= r.enough THEN NULLIF(c.spend_of_others, 0) / c.qualified_of_others END
      AS average,
    CASE WHEN c.qualified + c.qualified_before >= r.enough THEN 'yes' ELSE 'no' END AS enough_data,
    CASE
      WHEN ABS(LN(NULLIF(1 + c.cost_change, 0)))
        >= r.deviations * SQRT(1 / NULLIF(c.qualified, 0) + 1 / NULLIF(c.qualified_before, 0)) THEN 'yes'
      ELSE 'no'
    END AS beyond_chance
  FROM costs AS c
  CROSS JOIN rule AS r
),
decided AS (
  SELECT
    c.*,
    CASE
      WHEN c.id = 0 THEN CONCAT('watch: events without a ', c.kind)
      WHEN c.spend = 0 THEN 'watch: no spend in the last week'
      WHEN c.unnamed > c.most_unnamed THEN CONCAT('watch: too many qualified applications without a ', c.kind)
      WHEN c.average IS NULL THEN 'watch: no average to compare with'
      WHEN c.spend >= c.averages * c.average * (c.qualified + 1) THEN
        CASE WHEN c.qualified = 0 THEN 'stop: high spend, no qualified application' ELSE 'stop: far above average' END
      WHEN c.enough_data = 'no' THEN 'watch: too few applications to judge'
      WHEN c.cost_change IS NULL THEN 'watch: no cost in one of the weeks'
      WHEN c.cost_change > c.raise_from AND c.cost_change < c.stop_from THEN 'watch: no large change'
      WHEN c.beyond_chance = 'no' THEN 'watch: large change, but chance may explain it'
      WHEN c.cost_change < 0 AND c.cost <= c.average THEN 'raise: cost fell sharply, not above average'
      WHEN c.cost_change < 0 THEN 'watch: cost fell sharply, still above average'
      WHEN c.cost > c.average THEN 'stop: cost rose sharply, above average'
      ELSE 'watch: cost rose sharply, not above average'
    END AS verdict
  FROM compared AS c
)
SELECT
  kind,
  CASE WHEN id = 0 THEN 'none' ELSE CONCAT(kind, ' ', id) END AS name,
  SUBSTRING_INDEX(verdict, ': ', 1) AS decision,
  SUBSTRING_INDEX(verdict, ': ', -1) AS reason,
  cost AS cost_per_qualified,
  cost_before AS cost_per_qualified_before,
  cost_change,
  average AS average_cost,
  enough_data,
  beyond_chance,
  unnamed AS unnamed_share,
  spend, clicks, applications, qualified,
  spend_before, clicks_before, applications_before, qualified_before
FROM decided;

-- How the cost changed: sums over 168 full hours, up to now and up to each of the seven days before. The cost at the
-- first point is cost_per_qualified_before of a decision, and at the last point its cost_per_qualified.
CREATE OR REPLACE VIEW recruitment.board_cost_trend AS
SELECT
  d.kind,
  CASE WHEN d.id = 0 THEN 'none' ELSE CONCAT(d.kind, ' ', d.id) END AS name,
  UTC_DATE() + INTERVAL HOUR(UTC_TIME()) - 24 * p.days_ago HOUR AS until_utc,
  SUM(d.spend) AS spend,
  SUM(d.clicks) AS clicks,
  SUM(d.applications) AS applications,
  SUM(d.qualified) AS qualified
FROM recruitment.board_cost_days AS d
INNER JOIN (
  SELECT 0 AS days_ago UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
  UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7
) AS p ON d.days_ago BETWEEN p.days_ago AND p.days_ago + 6
GROUP BY d.kind, d.id, p.days_ago;
