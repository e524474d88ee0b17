-- The sales of every hour are what its operations add up to: none has other values, none is missing, none stands alone.
-- table: ecommerce.sales_hourly
-- remedy: {again}: which of its minutes is wrong, the fact does not say. A fact that is found where nothing is expected, and stays, has no event behind it: delete it by hand.

-- Where the slice of hours behind `after` ends; NULL for the last one. At most 600 minutes of operations, or so.
SELECT MIN(ends.hour) AS upto
FROM (
  (SELECT hour FROM ecommerce.event_hours WHERE %(after)s IS NULL OR hour > %(after)s ORDER BY hour LIMIT 1 OFFSET 600)
  UNION ALL
  (SELECT hour FROM ecommerce.sales_hourly WHERE %(after)s IS NULL OR hour > %(after)s
   ORDER BY hour LIMIT 1 OFFSET %(slice_rows)s)
) AS ends;

SELECT
  MIN(d.minute) AS minute, MAX(d.last_minute) AS last_minute, d.hour, d.department, d.product, d.brand,
  SUM(d.expected_views) AS expected_views, SUM(d.found_views) AS found_views,
  SUM(d.expected_carts) AS expected_carts, SUM(d.found_carts) AS found_carts,
  SUM(d.expected_removals) AS expected_removals, SUM(d.found_removals) AS found_removals,
  SUM(d.expected_purchases) AS expected_purchases, SUM(d.found_purchases) AS found_purchases,
  SUM(d.expected_revenue) AS expected_revenue, SUM(d.found_revenue) AS found_revenue
FROM (
  SELECT
    MIN(o.minute) AS minute, MAX(o.minute) AS last_minute, o.hour, o.department, o.product, o.brand,
    SUM(o.event_type = 'view') AS expected_views, NULL AS found_views,
    SUM(o.event_type = 'cart') AS expected_carts, NULL AS found_carts,
    SUM(o.event_type = 'remove_from_cart') AS expected_removals, NULL AS found_removals,
    SUM(o.event_type = 'purchase') AS expected_purchases, NULL AS found_purchases,
    SUM(o.revenue) AS expected_revenue, NULL AS found_revenue
  FROM (
    SELECT DISTINCT minute FROM ecommerce.event_hours
    WHERE (%(after)s IS NULL OR hour > %(after)s) AND (%(upto)s IS NULL OR hour <= %(upto)s)
  ) AS h
  STRAIGHT_JOIN ecommerce.operations AS o ON o.minute = h.minute
  WHERE (%(after)s IS NULL OR o.hour > %(after)s) AND (%(upto)s IS NULL OR o.hour <= %(upto)s)
  GROUP BY o.hour, o.department, o.product, o.brand
  UNION ALL
  SELECT
    NULL, NULL, hour, department, product, brand, NULL, views, NULL, carts, NULL, removals, NULL, purchases, NULL, revenue
  FROM ecommerce.sales_hourly
  WHERE (%(after)s IS NULL OR hour > %(after)s) AND (%(upto)s IS NULL OR hour <= %(upto)s)
) AS d
GROUP BY d.hour, d.department, d.product, d.brand
HAVING NOT (SUM(d.expected_views) <=> SUM(d.found_views) AND SUM(d.expected_carts) <=> SUM(d.found_carts)
  AND SUM(d.expected_removals) <=> SUM(d.found_removals) AND SUM(d.expected_purchases) <=> SUM(d.found_purchases)
  AND SUM(d.expected_revenue) <=> SUM(d.found_revenue));
