-- severity: fail
-- The visits of each hour that the batch touched equal the sums of its sales, and no hour is missing or left over.
SELECT
  t.hour, d.visits AS contributed_visits, f.visits, d.cart_additions AS contributed_cart_additions, f.cart_additions,
  d.removals AS contributed_removals, f.removals
FROM ecommerce.hours_touched AS t
LEFT JOIN (
  SELECT s.hour, SUM(s.views) AS visits, SUM(s.carts) AS cart_additions, SUM(s.removals) AS removals
  FROM ecommerce.hours_touched AS b
  STRAIGHT_JOIN ecommerce.sales_hourly AS s ON s.hour = b.hour
  WHERE b.batch_id = %(batch_id)s
  GROUP BY s.hour
) AS d ON d.hour = t.hour
LEFT JOIN ecommerce.visits_hourly AS f ON f.hour = t.hour
WHERE t.batch_id = %(batch_id)s
  AND NOT (f.visits <=> d.visits AND f.cart_additions <=> d.cart_additions AND f.removals <=> d.removals);
