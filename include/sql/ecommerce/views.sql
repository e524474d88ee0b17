-- Views for dashboards of the shop. hour_utc is for filters, which find their rows by index; hour is the same hour in
-- the reporting zone, named by its start. All figures count events or sum their prices: facts have no data about
-- visitors.

CREATE OR REPLACE VIEW ecommerce.board_sales AS
SELECT
  s.hour AS hour_utc,
  s.hour + INTERVAL COALESCE(
    CASE WHEN s.hour < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND AS hour,
  CONCAT(LPAD(HOUR(s.hour + INTERVAL COALESCE(
    CASE WHEN s.hour < z.changes_at THEN z.offset_seconds ELSE z.offset_after END, 0) SECOND), 2, '0'), 'h'
  ) AS hour_of_day,
  s.department, s.product, s.brand, s.views, s.carts, s.removals, s.purchases, s.revenue
FROM ecommerce.sales_hourly AS s
LEFT JOIN etl.reporting_days AS z ON z.day = DATE(s.hour);

-- The steps towards a purchase, one row per step and fact.
CREATE OR REPLACE VIEW ecommerce.board_funnel AS
SELECT
  s.hour AS hour_utc, s.department, s.product, s.brand, f.step_number, f.step,
  CASE f.step WHEN 'view' THEN s.views WHEN 'cart' THEN s.carts ELSE s.purchases END AS events
FROM ecommerce.sales_hourly AS s
CROSS JOIN (
  SELECT 1 AS step_number, 'view' AS step UNION ALL SELECT 2, 'cart' UNION ALL SELECT 3, 'purchase'
) AS f;
