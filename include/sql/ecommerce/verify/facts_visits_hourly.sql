-- The visits of every hour are what its sales add up to: none has other values, none is missing, none stands alone.
-- An hour that was last summed up before there were removals has None of them: that nobody has counted them is no 0.
-- table: ecommerce.visits_hourly
-- remedy: {again}; where many hours differ, backfill ecommerce_reconcile over them, with all runs. Visits that are found where nothing is expected, and stay, have no event behind them: delete them by hand.

-- Where the slice of hours behind `after` ends; NULL for the last one.
SELECT MIN(ends.hour) AS upto
FROM (
  (SELECT hour FROM ecommerce.sales_hourly WHERE %(after)s IS NULL OR hour > %(after)s
   ORDER BY hour LIMIT 1 OFFSET %(slice_rows)s)
  UNION ALL
  (SELECT hour FROM ecommerce.visits_hourly WHERE %(after)s IS NULL OR hour > %(after)s
   ORDER BY hour LIMIT 1 OFFSET %(slice_rows)s)
) AS ends;

SELECT
  (SELECT MIN(h.minute) FROM ecommerce.event_hours AS h WHERE h.hour = d.hour) AS minute,
  (SELECT MAX(h.minute) FROM ecommerce.event_hours AS h WHERE h.hour = d.hour) AS last_minute,
  d.hour, SUM(d.expected_visits) AS expected_visits, SUM(d.found_visits) AS found_visits,
  SUM(d.expected_cart_additions) AS expected_cart_additions, SUM(d.found_cart_additions) AS found_cart_additions,
  SUM(d.expected_removals) AS expected_removals, SUM(d.found_removals) AS found_removals
FROM (
  SELECT
    hour, SUM(views) AS expected_visits, NULL AS found_visits, SUM(carts) AS expected_cart_additions,
    NULL AS found_cart_additions, SUM(removals) AS expected_removals, NULL AS found_removals
  FROM ecommerce.sales_hourly
  WHERE (%(after)s IS NULL OR hour > %(after)s) AND (%(upto)s IS NULL OR hour <= %(upto)s)
  GROUP BY hour
  UNION ALL
  SELECT hour, NULL, visits, NULL, cart_additions, NULL, removals
  FROM ecommerce.visits_hourly
  WHERE (%(after)s IS NULL OR hour > %(after)s) AND (%(upto)s IS NULL OR hour <= %(upto)s)
) AS d
GROUP BY d.hour
HAVING NOT (SUM(d.expected_visits) <=> SUM(d.found_visits)
  AND SUM(d.expected_cart_additions) <=> SUM(d.found_cart_additions)
  AND SUM(d.expected_removals) <=> SUM(d.found_removals));
