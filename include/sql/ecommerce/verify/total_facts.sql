-- How many facts there are.
SELECT (SELECT COUNT(*) FROM ecommerce.sales_hourly) + (SELECT COUNT(*) FROM ecommerce.visits_hourly) AS facts;
