-- Skeleton: staging, contributions and facts. Grain of events_hourly: one row per hour of event_time (UTC) and kind.

CREATE DATABASE IF NOT EXISTS skeleton CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS skeleton.events_staged (
  attempt BIGINT UNSIGNED NOT NULL,
  minute DATETIME NOT NULL,
  hour DATETIME NOT NULL,
  kind VARCHAR(16) NOT NULL,
  event_count BIGINT NOT NULL,
  value_sum DECIMAL(22, 2) NOT NULL,
  PRIMARY KEY (attempt, minute, hour, kind)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS skeleton.events_by_minute (
  minute DATETIME NOT NULL COMMENT 'of create_time',
  hour DATETIME NOT NULL COMMENT 'of event_time',
  kind VARCHAR(16) NOT NULL,
  event_count BIGINT NOT NULL,
  value_sum DECIMAL(22, 2) NOT NULL,
  PRIMARY KEY (minute, hour, kind),
  KEY by_fact (hour, kind)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Fact keys that a batch touched: written by its merge, read by check_warehouse.
CREATE TABLE IF NOT EXISTS skeleton.events_touched (
  batch_id BIGINT UNSIGNED NOT NULL,
  hour DATETIME NOT NULL,
  kind VARCHAR(16) NOT NULL,
  PRIMARY KEY (batch_id, hour, kind)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS skeleton.events_hourly (
  hour DATETIME NOT NULL COMMENT 'of event_time, UTC',
  kind VARCHAR(16) NOT NULL,
  events BIGINT NOT NULL,
  value_sum DECIMAL(22, 2) NOT NULL COMMENT 'of values that are rounded to the cent, each by itself',
  PRIMARY KEY (hour, kind)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
