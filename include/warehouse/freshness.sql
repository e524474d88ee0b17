-- name: history
-- Publications from `start` on, and the one in force at `start`: one row per publication.
SELECT published_at, newest_create_time FROM etl.freshness
WHERE pipeline = %(pipeline)s
  AND published_at >= COALESCE(
    (SELECT MAX(published_at) FROM etl.freshness WHERE pipeline = %(pipeline)s AND published_at <= %(start)s), %(start)s
  )
ORDER BY published_at;
