-- name: findings
-- Checks of the newest batches that did not pass, the newest first: one row per result.
SELECT c.check_result_id, c.batch_id, c.gate, c.check_name, c.severity, c.outcome, c.offending_rows, c.checked_at,
  {{ "c.sample" if samples else "NULL AS sample" }}
FROM {{ newest }} AS n
JOIN etl.check_results AS c ON c.batch_id = n.batch_id
WHERE c.outcome <> 'pass' ORDER BY c.check_result_id DESC LIMIT %(limit)s;

-- name: tally
-- How often each check of the newest batches ran, warned and failed: one row per gate and check.
SELECT c.gate, c.check_name, MAX(c.severity) AS severity, COUNT(*) AS runs, SUM(c.outcome = 'warn') AS warnings,
  SUM(c.outcome = 'fail') AS failures, MAX(c.checked_at) AS checked_at,
  MAX(CASE WHEN c.outcome <> 'pass' THEN c.checked_at END) AS found_at
FROM {{ newest }} AS n
JOIN etl.check_results AS c ON c.batch_id = n.batch_id
GROUP BY c.gate, c.check_name ORDER BY c.gate, c.check_name;
