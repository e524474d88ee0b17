-- Publishes the planned minutes of a batch: runs inside the merge, under the pipeline's lock. Absolute values only.
-- Binds: batch_id, attempt, oldest_kept_batch. STRAIGHT_JOIN: from the few minutes or hours to the large table, by key.
-- What a joined DELETE empties has no alias: MariaDB would look for it in a default database, and there is none.

DELETE FROM ecommerce.hours_touched WHERE batch_id = %(batch_id)s;

-- Hours that lose events of these minutes …
INSERT INTO ecommerce.hours_touched (batch_id, hour)
SELECT DISTINCT %(batch_id)s, h.hour
FROM etl.batch_minutes AS m
STRAIGHT_JOIN ecommerce.event_hours AS h ON h.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

DELETE ecommerce.event_hours
FROM etl.batch_minutes AS m
STRAIGHT_JOIN ecommerce.event_hours ON event_hours.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO ecommerce.event_hours (minute, hour, events)
SELECT s.minute, s.hour, COUNT(*)
FROM etl.batch_minutes AS m
STRAIGHT_JOIN ecommerce.operations_staged AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned'
GROUP BY s.minute, s.hour;

-- … and hours that gain some.
INSERT INTO ecommerce.hours_touched (batch_id, hour)
SELECT DISTINCT %(batch_id)s, h.hour
FROM etl.batch_minutes AS m
STRAIGHT_JOIN ecommerce.event_hours AS h ON h.minute = m.minute
LEFT JOIN ecommerce.hours_touched AS t ON t.batch_id = %(batch_id)s AND t.hour = h.hour
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned' AND t.hour IS NULL;

DELETE ecommerce.operations
FROM etl.batch_minutes AS m
STRAIGHT_JOIN ecommerce.operations ON operations.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

INSERT INTO ecommerce.operations (minute, event_number, event_time, event_type, department, product, brand, price)
SELECT s.minute, s.event_number, s.event_time, s.event_type, s.department, s.product, s.brand, s.price
FROM etl.batch_minutes AS m
STRAIGHT_JOIN ecommerce.operations_staged AS s ON s.attempt = %(attempt)s AND s.minute = m.minute
WHERE m.batch_id = %(batch_id)s AND m.state = 'planned';

-- Whole hours: reading all minutes of an hour once costs less than an index that finds a single name's events in it.
DELETE ecommerce.sales_hourly
FROM ecommerce.hours_touched AS t
STRAIGHT_JOIN ecommerce.sales_hourly ON sales_hourly.hour = t.hour
WHERE t.batch_id = %(batch_id)s;

INSERT INTO ecommerce.sales_hourly (hour, department, product, brand, views, carts, removals, purchases, revenue)
SELECT
  t.hour, o.department, o.product, o.brand, SUM(o.event_type = 'view'), SUM(o.event_type = 'cart'),
  SUM(o.event_type = 'remove_from_cart'), SUM(o.event_type = 'purchase'), SUM(o.revenue)
FROM ecommerce.hours_touched AS t
STRAIGHT_JOIN ecommerce.event_hours AS h FORCE INDEX (by_hour) ON h.hour = t.hour
STRAIGHT_JOIN ecommerce.operations AS o ON o.minute = h.minute AND o.hour = t.hour
WHERE t.batch_id = %(batch_id)s
GROUP BY t.hour, o.department, o.product, o.brand;

DELETE ecommerce.visits_hourly
FROM ecommerce.hours_touched AS t
STRAIGHT_JOIN ecommerce.visits_hourly ON visits_hourly.hour = t.hour
WHERE t.batch_id = %(batch_id)s;

INSERT INTO ecommerce.visits_hourly (hour, visits, cart_additions, removals)
SELECT t.hour, SUM(f.views), SUM(f.carts), SUM(f.removals)
FROM ecommerce.hours_touched AS t
STRAIGHT_JOIN ecommerce.sales_hourly AS f ON f.hour = t.hour
WHERE t.batch_id = %(batch_id)s
GROUP BY t.hour;

-- check_warehouse has long read those of older batches.
DELETE FROM ecommerce.hours_touched WHERE batch_id < %(oldest_kept_batch)s LIMIT 10000;
