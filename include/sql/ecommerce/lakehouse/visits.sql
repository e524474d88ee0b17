-- For DuckDB and Spark SQL: visits and additions to carts per hour of event_time, counted from the raw events of the
-- Iceberg table. The conditions are the contract of include/spark/ecommerce.py, whose rule about prices applies to
-- purchases only.
SELECT
  date_trunc('hour', event_time) AS hour,
  count(*) FILTER (WHERE lower(event_type) = 'view') AS visits,
  count(*) FILTER (WHERE lower(event_type) = 'cart') AS cart_additions
FROM events
WHERE lower(event_type) IN ('view', 'cart', 'remove_from_cart')
  AND event_time BETWEEN TIMESTAMP '1970-01-01 00:00:00' AND TIMESTAMP '2100-12-31 23:59:59.999999'
  AND product_id BETWEEN 1 AND 9223372036854775807 AND product_id = floor(product_id)
  AND length(trim(split_part(coalesce(category_code, ''), '.', 1))) <= 64
  AND length(trim(split_part(coalesce(category_code, ''), '.', -1))) <= 64
  AND length(coalesce(brand, '')) <= 64
GROUP BY 1
