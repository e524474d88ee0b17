-- severity: fail
-- No price is negative, and every purchase has a price.
SELECT minute, event_number, event_type, department, product, brand, price
FROM ecommerce.operations_staged
WHERE attempt = %(attempt)s AND (price < 0 OR (event_type = 'purchase' AND price IS NULL));
