-- severity: fail
-- Every operation has a counted kind, and a department, product and brand ('other' if unknown).
SELECT minute, event_number, event_type, department, product, brand
FROM ecommerce.operations_staged
WHERE attempt = %(attempt)s
  AND (event_type NOT IN ('view', 'cart', 'remove_from_cart', 'purchase') OR '' IN (department, product, brand));
