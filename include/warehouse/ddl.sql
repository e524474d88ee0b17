-- name: patience
-- How many seconds DDL waits (1 on MySQL, which accepts no less; 0 on MariaDB, which would wait twice): one row.
SELECT IF(LOCATE('MariaDB', VERSION()), 0, 1);

-- name: sessions
-- Other sessions with an open transaction, the oldest first: one row per session.
SELECT p.id, p.user, p.command, p.time FROM information_schema.innodb_trx AS t
JOIN information_schema.processlist AS p ON p.id = t.trx_mysql_thread_id
WHERE p.id <> CONNECTION_ID() ORDER BY t.trx_started LIMIT %(limit)s;
