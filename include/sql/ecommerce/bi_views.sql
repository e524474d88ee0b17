-- Views for BI tools: Tableau, Power BI, Looker. A comment gives the type and meaning of each column; all other
-- descriptions of the columns come from here (include/warehouse/bi_views.py). No column is NULL. The boards have their
-- own views.

-- One row per hour, department, product and brand.
CREATE OR REPLACE VIEW ecommerce.bi_sales AS
SELECT
  -- DATETIME: Start of the hour of the events (`event_time`), UTC. Filter by this column.
  s.hour AS hour_utc,
  -- DATETIME: The same hour in the reporting time zone. For display.
  s.hour + INTERVAL COALESCE(
    CASE WHEN s.hour < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS hour_local,
  -- VARCHAR(64): First part of the category, such as `electronics`; `other` if unknown.
  s.department,
  -- VARCHAR(64): Last part of the category, such as `smartphone`; `other` if unknown.
  s.product,
  -- VARCHAR(64): Brand; `other` if unknown.
  s.brand,
  -- BIGINT: Product views.
  s.views,
  -- BIGINT: Products put into a cart.
  s.carts AS cart_additions,
  -- BIGINT: Products removed from a cart.
  s.removals AS cart_removals,
  -- BIGINT: Products bought.
  s.purchases,
  -- DECIMAL(24, 2): Sum of the prices of purchases.
  s.revenue
FROM ecommerce.sales_hourly AS s
LEFT JOIN etl.reporting_days AS z ON z.day = DATE(s.hour);

-- One row per hour.
CREATE OR REPLACE VIEW ecommerce.bi_visits AS
SELECT
  -- DATETIME: Start of the hour of the events (`event_time`), UTC. Filter by this column.
  v.hour AS hour_utc,
  -- DATETIME: The same hour in the reporting time zone. For display.
  v.hour + INTERVAL COALESCE(
    CASE WHEN v.hour < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS hour_local,
  -- BIGINT: Product views.
  v.visits,
  -- BIGINT: Products put into a cart.
  v.cart_additions
FROM ecommerce.visits_hourly AS v
LEFT JOIN etl.reporting_days AS z ON z.day = DATE(v.hour);
