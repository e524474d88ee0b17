-- Recruitment: staging, contributions and facts. Grain of events: one row per job_id, dates, hours, publisher_id,
-- campaign_id, group_id; dates and hours are those of the event's `ts` in UTC; 0 is an unknown key.

CREATE DATABASE IF NOT EXISTS recruitment CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS recruitment.job (
  id BIGINT NOT NULL,
  title VARCHAR(500) NULL,
  status VARCHAR(40) NULL,
  group_id BIGINT NULL,
  campaign_id BIGINT NULL,
  company_id BIGINT NULL,
  created_date DATETIME(6) NULL,
  last_modified_date DATETIME(6) NULL,
  PRIMARY KEY (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS recruitment.events_staged (
  attempt BIGINT UNSIGNED NOT NULL,
  minute DATETIME NOT NULL,
  job_id BIGINT NOT NULL,
  dates DATE NOT NULL,
  hours TINYINT NOT NULL,
  publisher_id BIGINT NOT NULL,
  campaign_id BIGINT NOT NULL,
  group_id BIGINT NOT NULL,
  event_count BIGINT NOT NULL,
  clicks BIGINT NOT NULL,
  impressions BIGINT NOT NULL,
  conversions BIGINT NOT NULL,
  qualified BIGINT NOT NULL,
  unqualified BIGINT NOT NULL,
  bid_sum DECIMAL(30, 6) NOT NULL COMMENT 'of the non-null bids of clicks',
  bid_count BIGINT NOT NULL,
  newest_create_time DATETIME(6) NOT NULL,
  PRIMARY KEY (attempt, minute, job_id, dates, hours, publisher_id, campaign_id, group_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS recruitment.events_by_minute (
  minute DATETIME NOT NULL,
  job_id BIGINT NOT NULL,
  dates DATE NOT NULL,
  hours TINYINT NOT NULL,
  publisher_id BIGINT NOT NULL,
  campaign_id BIGINT NOT NULL,
  group_id BIGINT NOT NULL,
  event_count BIGINT NOT NULL,
  clicks BIGINT NOT NULL,
  impressions BIGINT NOT NULL,
  conversions BIGINT NOT NULL,
  qualified BIGINT NOT NULL,
  unqualified BIGINT NOT NULL,
  bid_sum DECIMAL(30, 6) NOT NULL,
  bid_count BIGINT NOT NULL,
  newest_create_time DATETIME(6) NOT NULL,
  PRIMARY KEY (minute, job_id, dates, hours, publisher_id, campaign_id, group_id),
  KEY by_fact (job_id, dates, hours, publisher_id, campaign_id, group_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Fact keys that a batch touched: written by its merge, read by check_warehouse.
CREATE TABLE IF NOT EXISTS recruitment.events_touched (
  batch_id BIGINT UNSIGNED NOT NULL,
  job_id BIGINT NOT NULL,
  dates DATE NOT NULL,
  hours TINYINT NOT NULL,
  publisher_id BIGINT NOT NULL,
  campaign_id BIGINT NOT NULL,
  group_id BIGINT NOT NULL,
  PRIMARY KEY (batch_id, job_id, dates, hours, publisher_id, campaign_id, group_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS recruitment.events (
  job_id BIGINT NOT NULL,
  dates DATE NOT NULL,
  hours TINYINT NOT NULL,
  publisher_id BIGINT NOT NULL,
  campaign_id BIGINT NOT NULL,
  group_id BIGINT NOT NULL,
  company_id BIGINT NULL COMMENT 'of the job; NULL while the job is unknown',
  disqualified_application BIGINT NOT NULL,
  qualified_application BIGINT NOT NULL,
  conversion BIGINT NOT NULL,
  clicks BIGINT NOT NULL,
  impressions BIGINT NOT NULL,
  bid_sum DECIMAL(30, 6) NOT NULL,
  bid_count BIGINT NOT NULL,
  bid_set DECIMAL(30, 6) AS (CASE WHEN bid_count > 0 THEN bid_sum / bid_count END) STORED COMMENT 'average of the non-null bids of clicks',
  spend_hour DECIMAL(30, 6) NOT NULL COMMENT 'sum of click bids',
  sources VARCHAR(32) NOT NULL,
  latest_update_time DATETIME(6) NOT NULL COMMENT 'newest create_time',
  hour DATETIME AS (CAST(dates AS DATETIME) + INTERVAL hours HOUR) STORED COMMENT 'dates and hours in one, in UTC',
  PRIMARY KEY (job_id, dates, hours, publisher_id, campaign_id, group_id),
  KEY by_hour (dates, hours),
  KEY by_time (hour)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
