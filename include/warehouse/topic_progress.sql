-- name: record
-- Keeps how far a partition has been consumed. moved_at is set first, from the old values of the other columns.
INSERT INTO etl.topic_progress (pipeline, topic, partition_number, committed, waiting, moved_at, seen_at)
VALUES (%(pipeline)s, %(topic)s, %(partition)s, %(committed)s, %(waiting)s, %(now)s, %(now)s)
ON DUPLICATE KEY UPDATE
  moved_at = IF(waiting > 0 AND VALUES(waiting) > 0 AND committed = VALUES(committed), moved_at, VALUES(moved_at)),
  committed = VALUES(committed), waiting = VALUES(waiting), seen_at = VALUES(seen_at);

-- name: forget_absent
-- Removes partitions that the watch did not find: a topic may have been created again with fewer partitions.
DELETE FROM etl.topic_progress WHERE pipeline = %(pipeline)s AND topic = %(topic)s AND seen_at < %(now)s;

-- name: stuck
-- Partitions with waiting messages whose committed offset has not moved since `before`: one row per partition.
SELECT partition_number, waiting, moved_at FROM etl.topic_progress
WHERE pipeline = %(pipeline)s AND topic = %(topic)s AND waiting > 0 AND moved_at < %(before)s
ORDER BY partition_number;

-- name: record_failure
-- Keeps the time of the first failed check since the last successful one.
INSERT INTO etl.topic_progress (pipeline, topic, partition_number, committed, waiting, moved_at, seen_at)
VALUES (%(pipeline)s, %(topic)s, -1, 0, 0, %(now)s, %(now)s)
ON DUPLICATE KEY UPDATE seen_at = seen_at;

-- name: forget_older
-- Removes what was recorded before a check in which the broker answered for every topic.
DELETE FROM etl.topic_progress WHERE pipeline = %(pipeline)s AND seen_at < %(now)s;

-- name: unchecked_since
-- When the broker last answered for every topic of a pipeline, or the first failed check: one row. All partitions of a
-- topic are seen at the same time.
SELECT MIN(seen_at) FROM etl.topic_progress WHERE pipeline = %(pipeline)s;
