-- Replaces the operations of the planned minutes of a batch: runs inside the merge, before the facts are summed.
-- Binds: pipeline, batch_id, attempt. STRAIGHT_JOIN makes the server read the few minutes first, and then the large
-- table by key.
-- The table of a joined DELETE has no alias: MariaDB would look for the alias in the default database, and the session
-- has none.

DELETE ecommerce.operations
FROM etl.batch_minutes AS m
STRAIGHT_JOIN ecommerce.operations ON operations.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO ecommerce.operations (minute, event_number, event_time, event_type, department, product, brand, price)
SELECT s.minute, s.event_number, s.event_time, s.event_type, s.department, s.product, s.brand, s.price
FROM etl.batch_minutes AS m
STRAIGHT_JOIN etl.pipelines AS p
  ON p.pipeline = %(pipeline)s AND (p.rows_kept_from IS NULL OR m.minute >= p.rows_kept_from)
STRAIGHT_JOIN ecommerce.operations_staged AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';
