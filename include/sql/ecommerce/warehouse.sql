-- E-commerce: staging, operations and what they add up to per hour of event_time (UTC). Grain of operations: one row per
-- event. They are the contributions, too: a merge replaces them minute by minute. 'other' is an unknown name.

CREATE DATABASE IF NOT EXISTS ecommerce CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ecommerce.operations_staged (
  attempt BIGINT UNSIGNED NOT NULL,
  minute DATETIME NOT NULL,
  event_number BIGINT NOT NULL,
  event_time DATETIME(6) NOT NULL,
  event_type VARCHAR(16) NOT NULL,
  department VARCHAR(64) NOT NULL,
  product VARCHAR(64) NOT NULL,
  brand VARCHAR(64) NOT NULL,
  price DECIMAL(12, 2) NULL,
  hour DATETIME AS (DATE(event_time) + INTERVAL HOUR(event_time) HOUR) VIRTUAL,
  PRIMARY KEY (attempt, minute, event_number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Set-up and housekeeping make a partition for each day of create_time, a week ahead: include/warehouse/partitions.py.
CREATE TABLE IF NOT EXISTS ecommerce.operations (
  minute DATETIME NOT NULL COMMENT 'of create_time',
  event_number BIGINT NOT NULL COMMENT 'tells the rows of one read of the minute apart, and says nothing else',
  event_time DATETIME(6) NOT NULL,
  event_type VARCHAR(16) NOT NULL COMMENT 'view, cart, remove_from_cart or purchase',
  department VARCHAR(64) NOT NULL COMMENT 'first part of category_code',
  product VARCHAR(64) NOT NULL COMMENT 'last part of category_code',
  brand VARCHAR(64) NOT NULL,
  price DECIMAL(12, 2) NULL COMMENT 'NULL where the event says none that can be',
  hour DATETIME AS (DATE(event_time) + INTERVAL HOUR(event_time) HOUR) VIRTUAL,
  revenue DECIMAL(12, 2) AS (CASE WHEN event_type = 'purchase' THEN price ELSE 0 END) VIRTUAL,
  PRIMARY KEY (minute, event_number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
PARTITION BY RANGE (TO_DAYS(minute)) (PARTITION future VALUES LESS THAN MAXVALUE);

-- Which minutes hold the events of an hour, so that no index on the operations is needed to find them.
CREATE TABLE IF NOT EXISTS ecommerce.event_hours (
  minute DATETIME NOT NULL,
  hour DATETIME NOT NULL,
  events BIGINT NOT NULL,
  PRIMARY KEY (minute, hour),
  KEY by_hour (hour, minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Hours that a batch touched: written by its merge, read by check_warehouse.
CREATE TABLE IF NOT EXISTS ecommerce.hours_touched (
  batch_id BIGINT UNSIGNED NOT NULL,
  hour DATETIME NOT NULL,
  PRIMARY KEY (batch_id, hour)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ecommerce.sales_hourly (
  hour DATETIME NOT NULL,
  department VARCHAR(64) NOT NULL,
  product VARCHAR(64) NOT NULL,
  brand VARCHAR(64) NOT NULL,
  views BIGINT NOT NULL,
  carts BIGINT NOT NULL,
  removals BIGINT NOT NULL,
  purchases BIGINT NOT NULL,
  revenue DECIMAL(24, 2) NOT NULL COMMENT 'sum of the prices of purchases',
  PRIMARY KEY (hour, department, product, brand)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ecommerce.visits_hourly (
  hour DATETIME NOT NULL,
  visits BIGINT NOT NULL COMMENT 'views',
  cart_additions BIGINT NOT NULL,
  removals BIGINT NULL COMMENT 'from carts; NULL where the hour was last summed up before there was this column',
  PRIMARY KEY (hour)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
