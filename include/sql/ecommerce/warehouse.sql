-- E-commerce: operations, one row per event, which a merge replaces minute by minute. 'other' stands for a missing
-- name. The facts that sum the operations are declared in include/pipelines/ecommerce.py.

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

-- Set-up and housekeeping create a partition for each day of create_time, a week ahead:
-- include/warehouse/partitions.py.
CREATE TABLE IF NOT EXISTS ecommerce.operations (
  minute DATETIME NOT NULL COMMENT 'of create_time',
  event_number BIGINT NOT NULL COMMENT 'distinguishes the rows of one read of the minute; it has no other meaning',
  event_time DATETIME(6) NOT NULL,
  event_type VARCHAR(16) NOT NULL COMMENT 'view, cart, remove_from_cart or purchase',
  department VARCHAR(64) NOT NULL COMMENT 'first part of category_code',
  product VARCHAR(64) NOT NULL COMMENT 'last part of category_code',
  brand VARCHAR(64) NOT NULL,
  price DECIMAL(12, 2) NULL COMMENT 'NULL if the event has no valid price',
  hour DATETIME AS (DATE(event_time) + INTERVAL HOUR(event_time) HOUR) VIRTUAL,
  revenue DECIMAL(12, 2) AS (CASE WHEN event_type = 'purchase' THEN price ELSE 0 END) VIRTUAL,
  PRIMARY KEY (minute, event_number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
PARTITION BY RANGE (TO_DAYS(minute)) (PARTITION future VALUES LESS THAN MAXVALUE);
