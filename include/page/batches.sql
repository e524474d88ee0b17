-- name: newest
-- A derived table, the newest batches of a pipeline: one row per batch. It filters the newest
-- batches of all pipelines: no index orders one pipeline's batches of all states by age.
(
  SELECT n.batch_id FROM (SELECT batch_id, pipeline FROM etl.batches ORDER BY batch_id DESC LIMIT %(batches)s) AS n
  WHERE n.pipeline = %(pipeline)s
);

-- name: runs_of
-- The runs of batches: one row per batch.
SELECT batch_id, dag_id, run_id FROM etl.batches WHERE batch_id IN (%(batch_ids)s);
