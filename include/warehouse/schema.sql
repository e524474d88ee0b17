-- name: add_pipeline
-- Adds a pipeline that is not known yet.
INSERT INTO etl.pipelines (pipeline) SELECT d.pipeline FROM (SELECT %(pipeline)s AS pipeline) AS d
WHERE NOT EXISTS (SELECT 1 FROM etl.pipelines AS p WHERE p.pipeline = d.pipeline);
