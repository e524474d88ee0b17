-- severity: fail
-- The sales of each hour that the batch touched equal the sums of its operations: no value differs, and no row is
-- missing or left over.
SELECT
  d.hour, d.department, d.product, d.brand,
  SUM(d.views) AS contributed_views, SUM(d.found_views) AS views, SUM(d.carts) AS contributed_carts,
  SUM(d.found_carts) AS carts, SUM(d.removals) AS contributed_removals, SUM(d.found_removals) AS removals,
  SUM(d.purchases) AS contributed_purchases, SUM(d.found_purchases) AS purchases,
  SUM(d.revenue) AS contributed_revenue, SUM(d.found_revenue) AS revenue
FROM (
  SELECT
    t.hour, o.department, o.product, o.brand, SUM(o.event_type = 'view') AS views, SUM(o.event_type = 'cart') AS carts,
    SUM(o.event_type = 'remove_from_cart') AS removals, SUM(o.event_type = 'purchase') AS purchases,
    SUM(o.revenue) AS revenue, 0 AS found_views, 0 AS found_carts, 0 AS found_removals, 0 AS found_purchases,
    0 AS found_revenue, 1 AS contributed, 0 AS found
  FROM ecommerce.hours_touched AS t
  STRAIGHT_JOIN ecommerce.event_hours AS h FORCE INDEX (by_hour) ON h.hour = t.hour
  STRAIGHT_JOIN ecommerce.operations AS o ON o.minute = h.minute AND o.hour = t.hour
  WHERE t.batch_id = %(batch_id)s
  GROUP BY t.hour, o.department, o.product, o.brand
  UNION ALL
  SELECT
    f.hour, f.department, f.product, f.brand, 0, 0, 0, 0, 0, f.views, f.carts, f.removals, f.purchases, f.revenue, 0, 1
  FROM ecommerce.hours_touched AS t
  STRAIGHT_JOIN ecommerce.sales_hourly AS f ON f.hour = t.hour
  WHERE t.batch_id = %(batch_id)s
) AS d
GROUP BY d.hour, d.department, d.product, d.brand
HAVING SUM(d.contributed) <> SUM(d.found) OR SUM(d.views) <> SUM(d.found_views) OR SUM(d.carts) <> SUM(d.found_carts)
  OR SUM(d.removals) <> SUM(d.found_removals) OR SUM(d.purchases) <> SUM(d.found_purchases)
  OR SUM(d.revenue) <> SUM(d.found_revenue);
