-- Control tables of every pipeline. All times are UTC; changed_at values are the lake's time-UUIDs as text, except in etl.hours.
-- Written for MySQL 8.4 or newer and MariaDB 10.11 or newer; applying it again changes nothing.

CREATE DATABASE IF NOT EXISTS etl CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row per pipeline: the lock that every writer of contributions or facts takes first.
CREATE TABLE IF NOT EXISTS etl.pipelines (
  pipeline VARCHAR(48) NOT NULL,
  created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  rows_kept_from DATETIME NULL
    COMMENT 'tables with a partition for each day have no rows of earlier minutes; NULL: they have all rows',
  PRIMARY KEY (pipeline)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far the change log was read: one row per pipeline and day. drilled_at is the lake's clock at the poll that
-- last read the minutes of the day.
CREATE TABLE IF NOT EXISTS etl.day_cursors (
  pipeline VARCHAR(48) NOT NULL,
  day DATE NOT NULL,
  day_changed_at CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  drilled_at DATETIME(6) NOT NULL,
  PRIMARY KEY (pipeline, day)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The ledger: the newest change of each minute, its newest merged read, and its rows by fate. A poll records seen_*, a
-- merge what it read, and the database derives `pending`, so that neither can overwrite what the other recorded.
CREATE TABLE IF NOT EXISTS etl.minute_ledger (
  pipeline VARCHAR(48) NOT NULL,
  minute DATETIME NOT NULL,
  -- VARCHAR: MariaDB refuses IS NULL of a CHAR in a generated column, because its padding depends on sql_mode.
  seen_changed_at VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
  seen_changed_time DATETIME(6) NULL COMMENT 'the time inside seen_changed_at',
  read_changed_at VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL
    COMMENT 'seen_changed_at when the merged read started',
  read_at DATETIME(6) NULL
    COMMENT 'clock of the lake before the merged read; NULL after a failed check_warehouse, or to have it read again',
  settled_before DATETIME(6) NULL COMMENT 'read_at less the settle time',
  batch_id BIGINT UNSIGNED NULL,
  attempt BIGINT UNSIGNED NULL,
  raw_rows BIGINT NULL,
  counted_rows BIGINT NULL,
  ignored_rows BIGINT NULL,
  rejected_rows BIGINT NULL,
  ignored_by_kind TEXT NULL COMMENT 'JSON object: kind to rows',
  id_checksum BIGINT NULL COMMENT 'sum of CRC32 over the event ids',
  newest_create_time DATETIME(6) NULL,
  set_options TEXT NULL
    COMMENT 'JSON object: options of the merged read that differ from the defaults, including allow_shrink',
  state VARCHAR(16) NOT NULL DEFAULT 'seen' COMMENT 'seen, merged, held or closed',
  reason VARCHAR(500) NULL COMMENT 'why it is held or closed',
  held_changed_at VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL
    COMMENT 'seen_changed_at when it was held; ''released'' or ''judged again'' to have it read again',
  waiting TINYINT NOT NULL DEFAULT 0 COMMENT '1: held only until the other rows of its hour are read',
  split_size INT NULL COMMENT 'largest batch it may join after failing in a larger one',
  merged_at DATETIME(6) NULL,
  lakehouse_attempt BIGINT UNSIGNED NULL
    COMMENT 'attempt that the lakehouse has, or that was skipped; NULL: none yet; 0: none any more, or that in lakehouse_kept',
  lakehouse_kept BIGINT UNSIGNED NULL
    COMMENT 'attempt whose events the lakehouse still has, while they must or cannot be written again',
  lakehouse_skipped BIGINT UNSIGNED NULL
    COMMENT 'attempt whose events the lake did not have when they were due; NULL: none',
  pending TINYINT AS (CASE
    WHEN state = 'closed' THEN 0
    WHEN state = 'held' THEN (CASE WHEN seen_changed_at <=> held_changed_at THEN 0 ELSE 1 END)
    WHEN state = 'merged' AND read_at IS NULL THEN 1
    WHEN seen_changed_at IS NULL THEN 0
    WHEN read_changed_at IS NULL OR seen_changed_at <> read_changed_at THEN 1
    WHEN settled_before IS NULL OR seen_changed_time > settled_before THEN 1
    ELSE 0 END) STORED,
  to_lakehouse TINYINT AS (CASE
    WHEN state <> 'merged' OR read_at IS NULL THEN 0
    WHEN seen_changed_at IS NOT NULL AND seen_changed_time > settled_before THEN 0
    WHEN lakehouse_attempt <=> attempt THEN 0
    ELSE 1 END) STORED COMMENT '1: settled, and its newest merged read is not in the lakehouse',
  PRIMARY KEY (pipeline, minute),
  KEY pending_minutes (pipeline, pending, split_size, minute),
  KEY lakehouse_minutes (pipeline, to_lakehouse, minute),
  KEY by_state (pipeline, state, minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The Iceberg table that lakehouse_attempt describes. A new table, such as after the catalog was lost, gets all events
-- again.
CREATE TABLE IF NOT EXISTS etl.lakehouse_tables (
  pipeline VARCHAR(48) NOT NULL,
  table_uuid CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  written_at DATETIME(6) NULL COMMENT 'when minutes were last written',
  created_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'when an export first saw this table',
  PRIMARY KEY (pipeline)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Hours whose events in the lakehouse changed, and their counts there. A write raises `changes`; the database derives
-- `to_count`, and `to_load` for BigQuery.
CREATE TABLE IF NOT EXISTS etl.lakehouse_hours (
  pipeline VARCHAR(48) NOT NULL,
  hour DATETIME NOT NULL COMMENT 'of the fact',
  changes BIGINT UNSIGNED NOT NULL DEFAULT 1
    COMMENT 'rises with each write of events of this hour; at least the seconds since 1970',
  counted_change BIGINT UNSIGNED NULL COMMENT '`changes` when it was counted; also `attempt` in its file',
  counts TEXT NULL COMMENT 'JSON object: measure to count',
  counted_at DATETIME(6) NULL,
  waited_at DATETIME(6) NULL
    COMMENT 'when it was last compared and had to wait for a minute; NULL: not since it changed',
  count_tried_at DATETIME(6) NULL COMMENT 'last time that counting was tried, even if it failed',
  differs_since DATETIME(6) NULL COMMENT 'since when its counts differ from the fact; NULL: they do not',
  loaded_change BIGINT UNSIGNED NULL COMMENT 'counted_change that BigQuery has; NULL: none',
  loaded_at DATETIME(6) NULL,
  load_tried_at DATETIME(6) NULL COMMENT 'last time that loading was tried, even if it failed',
  to_count TINYINT AS (CASE WHEN counted_change <=> changes THEN 0 ELSE 1 END) STORED,
  to_load TINYINT AS (CASE WHEN counted_change IS NULL OR counted_change <=> loaded_change THEN 0 ELSE 1 END) STORED,
  PRIMARY KEY (pipeline, hour),
  KEY hours_to_count (pipeline, to_count, hour),
  KEY hours_to_load (pipeline, to_load, loaded_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The table in BigQuery that loaded_change describes. A new table, such as after a drop, gets all hours again.
CREATE TABLE IF NOT EXISTS etl.bigquery_tables (
  pipeline VARCHAR(48) NOT NULL,
  table_id VARCHAR(2200) NOT NULL COMMENT 'project:dataset.table',
  created_ms BIGINT NOT NULL COMMENT 'when BigQuery created it, in milliseconds since 1970',
  PRIMARY KEY (pipeline)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Hours of create_time as consumers in Airflow know them: a merge raises `version`, an asset event announces it. An
-- hour without rows is added when the lake's clock reaches it, with version 0.
CREATE TABLE IF NOT EXISTS etl.hours (
  pipeline VARCHAR(48) NOT NULL,
  hour DATETIME NOT NULL,
  version BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'number of merges with minutes of this hour',
  changed_at DATETIME(6) NULL COMMENT 'time of the newest of these merges',
  changed_since DATETIME(6) NULL COMMENT 'time of the first merge that is not announced',
  offered_version BIGINT UNSIGNED NULL COMMENT 'version of the event that a task was about to emit',
  offered_at DATETIME(6) NULL,
  fact_hours TEXT NULL
    COMMENT 'JSON list: hours of the facts that its rows add to, or added to at an earlier offer',
  announced_version BIGINT UNSIGNED NULL
    COMMENT 'version of the newest event that Airflow has recorded; NULL: none',
  announced_at DATETIME(6) NULL,
  to_announce TINYINT AS (CASE
    WHEN NOT (offered_version <=> announced_version) THEN 2
    WHEN version <=> announced_version THEN 0
    ELSE 1 END) STORED COMMENT '2: check in Airflow whether the offered event is recorded',
  PRIMARY KEY (pipeline, hour),
  KEY hours_to_announce (pipeline, to_announce, hour)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How many rows of a minute have each field, as its newest merge counted them. Housekeeping removes old rows.
CREATE TABLE IF NOT EXISTS etl.minute_fields (
  pipeline VARCHAR(48) NOT NULL,
  minute DATETIME NOT NULL,
  field_counts TEXT NOT NULL
    COMMENT 'JSON object: present, unreadable and unknown, each an object of field to rows',
  merged_at DATETIME(6) NOT NULL,
  PRIMARY KEY (pipeline, minute),
  KEY by_age (pipeline, merged_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Drift of the fields, and who accepted it. One row covers all minutes from one day before its first_minute until its
-- ended_minute.
CREATE TABLE IF NOT EXISTS etl.drifts (
  drift_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  pipeline VARCHAR(48) NOT NULL,
  kind VARCHAR(16) NOT NULL COMMENT 'disappeared, unreadable, ignored or appeared',
  field VARCHAR(128) NOT NULL,
  first_minute DATETIME NOT NULL COMMENT 'the first minute that shows it',
  last_minute DATETIME NULL COMMENT 'the last minute that shows it; NULL: the same as the first',
  minute_rows BIGINT NOT NULL COMMENT 'rows of the first minute found that show it',
  usual DOUBLE NULL COMMENT 'the share over the day before',
  description VARCHAR(500) NOT NULL,
  found_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  accepted_by VARCHAR(190) NULL,
  accepted_at DATETIME(6) NULL,
  reason VARCHAR(500) NULL COMMENT 'why it was accepted',
  ended_minute DATETIME NULL COMMENT 'the first minute that has the field again as before',
  PRIMARY KEY (drift_id),
  KEY by_minute (pipeline, first_minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row per batch. A run that finds work opens a batch, and another one if it is cleared from wait_for_changes.
CREATE TABLE IF NOT EXISTS etl.batches (
  batch_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  pipeline VARCHAR(48) NOT NULL,
  kind VARCHAR(16) NOT NULL COMMENT 'minute, reconcile, backfill or manual',
  dag_id VARCHAR(250) NOT NULL,
  run_id VARCHAR(250) NOT NULL,
  tick DATETIME(6) NULL COMMENT 'when the run was due',
  opened_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  lake_clock DATETIME(6) NOT NULL COMMENT 'clock of the lake before the minutes were chosen',
  options TEXT NOT NULL COMMENT 'JSON object: options of the transform',
  allow_shrink TINYINT NOT NULL DEFAULT 0,
  is_delta TINYINT NOT NULL DEFAULT 0 COMMENT '1: it took the changed minutes; 0: its minutes were given',
  split_size INT NULL COMMENT 'of the minutes in it that failed in a larger batch; NULL for an ordinary batch',
  estimated_rows BIGINT NOT NULL DEFAULT 0,
  state VARCHAR(16) NOT NULL DEFAULT 'open' COMMENT 'open, merged, skipped or failed',
  reason VARCHAR(500) NULL,
  minutes INT NOT NULL DEFAULT 0,
  checked_attempt BIGINT UNSIGNED NULL COMMENT 'the completed attempt that passed the staging gate',
  merged_attempt BIGINT UNSIGNED NULL,
  merge_tries INT NOT NULL DEFAULT 0,
  merged_at DATETIME(6) NULL,
  unchecked_since DATETIME(6) NULL COMMENT 'time of the merge or the last failed check_warehouse; NULL: neither, or it passed',
  merged_minutes INT NULL,
  raw_rows BIGINT NULL,
  counted_rows BIGINT NULL,
  ignored_rows BIGINT NULL,
  rejected_rows BIGINT NULL,
  PRIMARY KEY (batch_id),
  KEY by_pipeline (pipeline, state, batch_id),
  KEY by_split (pipeline, is_delta, split_size, batch_id),
  KEY unchecked (pipeline, unchecked_since),
  KEY by_age (opened_at),
  KEY by_run (dag_id(100), run_id(100))
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS etl.batch_minutes (
  batch_id BIGINT UNSIGNED NOT NULL,
  minute DATETIME NOT NULL,
  changed_at CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL
    COMMENT 'seen_changed_at when the batch was opened',
  state VARCHAR(16) NOT NULL DEFAULT 'planned' COMMENT 'planned, merged, superseded, held or skipped',
  reason VARCHAR(500) NULL,
  PRIMARY KEY (batch_id, minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Attempt numbers are assigned here before the lake is read; a larger number is a later attempt.
CREATE TABLE IF NOT EXISTS etl.attempts (
  attempt BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  batch_id BIGINT UNSIGNED NOT NULL,
  started_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (attempt),
  KEY by_batch (batch_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Staging, filled by Spark. The counts come last: a row for every minute of the batch marks the attempt as complete.
CREATE TABLE IF NOT EXISTS etl.staged_counts (
  attempt BIGINT UNSIGNED NOT NULL,
  minute DATETIME NOT NULL,
  raw_rows BIGINT NOT NULL,
  counted_rows BIGINT NOT NULL,
  ignored_rows BIGINT NOT NULL,
  rejected_rows BIGINT NOT NULL,
  ignored_by_kind TEXT NULL,
  id_checksum BIGINT NOT NULL,
  newest_create_time DATETIME(6) NULL,
  field_counts TEXT NULL COMMENT 'see etl.minute_fields; NULL for a minute without rows',
  PRIMARY KEY (attempt, minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS etl.staged_rejects (
  attempt BIGINT UNSIGNED NOT NULL,
  origin_key VARCHAR(190) NOT NULL COMMENT 'minute/shard/create_time, and /id if event_id is not create_time',
  minute DATETIME NOT NULL,
  reason VARCHAR(500) NOT NULL,
  payload MEDIUMTEXT NOT NULL COMMENT 'the raw row as JSON',
  PRIMARY KEY (attempt, origin_key)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Ids of the batch with two create_times: their producer meant one event, and they count as two.
CREATE TABLE IF NOT EXISTS etl.staged_repeats (
  attempt BIGINT UNSIGNED NOT NULL,
  number INT NOT NULL,
  minute DATETIME NOT NULL,
  event_id VARCHAR(100) NOT NULL COMMENT 'its first 100 characters',
  create_time CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  first_create_time CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'the earlier create_time',
  PRIMARY KEY (attempt, number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Rows that broke the contract. A merge replaces those of origin lake; the others never reached the lake. The unique
-- key is the primary key: in any other unique key, a row that is inserted again after its deletion locks the gaps next
-- to it, and the next pipeline's merge would wait for this one.
CREATE TABLE IF NOT EXISTS etl.rejected_events (
  rejected_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  pipeline VARCHAR(48) NOT NULL,
  origin VARCHAR(16) NOT NULL COMMENT 'lake, import or kafka',
  origin_key VARCHAR(190) NOT NULL
    COMMENT 'lake: see etl.staged_rejects; import: source_key:line or create_time; kafka: topic@id/partition/offset',
  minute DATETIME NULL,
  reason VARCHAR(500) NOT NULL,
  payload MEDIUMTEXT NOT NULL,
  batch_id BIGINT UNSIGNED NULL,
  rejected_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (pipeline, origin, origin_key),
  KEY by_id (rejected_id),
  KEY by_minute (pipeline, minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS etl.check_results (
  check_result_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  batch_id BIGINT UNSIGNED NOT NULL,
  attempt BIGINT UNSIGNED NULL,
  gate VARCHAR(16) NOT NULL COMMENT 'staging or warehouse',
  check_name VARCHAR(64) NOT NULL,
  severity VARCHAR(8) NOT NULL COMMENT 'fail or warn',
  outcome VARCHAR(8) NOT NULL COMMENT 'pass, warn or fail',
  offending_rows INT NOT NULL,
  sample TEXT NULL COMMENT 'JSON list of the first offending rows',
  checked_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (check_result_id),
  KEY by_batch (batch_id)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The newest hold of every minute that was ever held; the ledger shows whether it is held now, and why.
CREATE TABLE IF NOT EXISTS etl.holds (
  pipeline VARCHAR(48) NOT NULL,
  minute DATETIME NOT NULL,
  held_since DATETIME(6) NOT NULL COMMENT 'the first hold since the minute was last merged',
  held_at DATETIME(6) NOT NULL COMMENT 'the newest one',
  batch_id BIGINT UNSIGNED NULL,
  attempt BIGINT UNSIGNED NULL
    COMMENT 'whose read failed the gate; NULL for a minute that fails alone in Spark or merge',
  changed_at VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'seen_changed_at of that read',
  rows_now BIGINT NULL COMMENT 'rows of that read',
  rejected_now BIGINT NULL COMMENT 'rejected rows among them',
  failing_checks TEXT NOT NULL COMMENT 'JSON list of the names of failed checks',
  PRIMARY KEY (pipeline, minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Who released a held minute, and why. One merge of the minute uses the release up; so does another hold.
CREATE TABLE IF NOT EXISTS etl.releases (
  release_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  pipeline VARCHAR(48) NOT NULL,
  minute DATETIME NOT NULL,
  held_reason VARCHAR(500) NULL COMMENT 'why it was held',
  released_by VARCHAR(190) NOT NULL,
  reason VARCHAR(500) NULL COMMENT 'why it was released, as the user wrote it',
  released_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  used_by_batch BIGINT UNSIGNED NULL COMMENT 'the batch that merged the minute; NULL although used_at is set: it was held again',
  used_at DATETIME(6) NULL COMMENT 'NULL: the next batch with this minute will use it',
  PRIMARY KEY (release_id),
  KEY by_use (pipeline, used_at, minute),
  KEY by_minute (pipeline, minute)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Failing checks of a staging gate that counted as warnings for a released minute.
CREATE TABLE IF NOT EXISTS etl.release_passes (
  batch_id BIGINT UNSIGNED NOT NULL,
  attempt BIGINT UNSIGNED NOT NULL,
  minute DATETIME NOT NULL,
  check_name VARCHAR(64) NOT NULL,
  release_id BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (batch_id, attempt, minute, check_name)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Hours of create_time whose contributions are folded into one row per fact key, at the hour's first minute.
CREATE TABLE IF NOT EXISTS etl.folded_hours (
  pipeline VARCHAR(48) NOT NULL,
  hour DATETIME NOT NULL,
  folded_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (pipeline, hour)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Progress of imports and of replays of files: after a kill, each resumes where it was.
CREATE TABLE IF NOT EXISTS etl.imports (
  import_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  target VARCHAR(96) NOT NULL COMMENT 'pipeline or pipeline.dimension',
  source_key VARCHAR(190) NOT NULL COMMENT 'sha256 of the file, keyspace.table, or replay/sha256/options',
  source_name VARCHAR(250) NOT NULL,
  position BIGINT NOT NULL DEFAULT 0 COMMENT 'line or token up to which all rows are safely written or rejected',
  rows_written BIGINT NOT NULL DEFAULT 0,
  rows_rejected BIGINT NOT NULL DEFAULT 0,
  state VARCHAR(16) NOT NULL DEFAULT 'running' COMMENT 'running or done',
  started_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
  PRIMARY KEY (import_id),
  UNIQUE KEY by_source (target, source_key)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- When the change log was last polled, with or without changes: one row per pipeline.
CREATE TABLE IF NOT EXISTS etl.looks (
  pipeline VARCHAR(48) NOT NULL,
  looked_at DATETIME(6) NOT NULL COMMENT 'clock of this server',
  lake_clock DATETIME(6) NOT NULL COMMENT 'clock of the lake at that poll',
  PRIMARY KEY (pipeline)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- One row per merge that published a newer event than every earlier merge. Rows of the last week are kept, and the
-- newest older row.
CREATE TABLE IF NOT EXISTS etl.freshness (
  pipeline VARCHAR(48) NOT NULL,
  published_at DATETIME(6) NOT NULL COMMENT 'clock of this server',
  newest_create_time DATETIME(6) NOT NULL
    COMMENT 'of all published events, but never later than published_at',
  PRIMARY KEY (pipeline, published_at)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What minutemark_watch has found and reported: one row per pipeline and problem, open or over.
CREATE TABLE IF NOT EXISTS etl.alerts (
  pipeline VARCHAR(48) NOT NULL,
  problem VARCHAR(16) NOT NULL
    COMMENT 'stale, blind, held, failing, stuck, lakehouse_behind, hours_differ or bigquery_behind',
  state VARCHAR(8) NOT NULL COMMENT 'open or over',
  began_at DATETIME(6) NOT NULL COMMENT 'when the problem started',
  seen_at DATETIME(6) NOT NULL COMMENT 'when the watch last found the problem',
  told_at DATETIME(6) NULL COMMENT 'when a channel last accepted a notice of this state; NULL: none yet',
  found VARCHAR(500) NOT NULL,
  remedy VARCHAR(500) NOT NULL,
  PRIMARY KEY (pipeline, problem)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Progress of a topic's consumers by partition, as the watch last found it.
CREATE TABLE IF NOT EXISTS etl.topic_progress (
  pipeline VARCHAR(48) NOT NULL,
  topic VARCHAR(249) NOT NULL,
  partition_number INT NOT NULL,
  committed BIGINT NOT NULL COMMENT 'offset that the consumer group has committed',
  waiting BIGINT NOT NULL COMMENT 'messages that follow it',
  moved_at DATETIME(6) NOT NULL COMMENT 'when the offset last moved, or no message was waiting',
  seen_at DATETIME(6) NOT NULL COMMENT 'when the broker last answered; of partition -1: when a check first failed',
  PRIMARY KEY (pipeline, topic, partition_number)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The zone in which dashboards show times; one row. Set-up writes this table and the next one.
CREATE TABLE IF NOT EXISTS etl.reporting_zone (
  zone VARCHAR(64) NOT NULL,
  PRIMARY KEY (zone)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The zone's offsets on each UTC day on which it differs from UTC. On a day without change, changes_at is the end of
-- the day, and both offsets are the same.
CREATE TABLE IF NOT EXISTS etl.reporting_days (
  day DATE NOT NULL COMMENT 'of UTC',
  offset_seconds INT NOT NULL COMMENT 'ahead of UTC, until changes_at',
  changes_at DATETIME NOT NULL COMMENT 'in UTC',
  offset_after INT NOT NULL,
  PRIMARY KEY (day)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The views as set-up last created them: a view is replaced if its definition has changed, here or on the server.
CREATE TABLE IF NOT EXISTS etl.view_definitions (
  view_name VARCHAR(129) NOT NULL COMMENT 'database.view',
  statement_digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'SHA-256 of its CREATE statement',
  stored_digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
    COMMENT 'SHA-256 of the definition that the server then showed',
  PRIMARY KEY (view_name)
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The columns of rejected events that the bi account can read: never the payload.
CREATE OR REPLACE VIEW etl.rejected_summary AS
SELECT pipeline, origin, origin_key, minute, reason, batch_id, rejected_at FROM etl.rejected_events;
