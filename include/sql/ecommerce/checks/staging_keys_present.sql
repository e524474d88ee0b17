-- severity: fail
-- Every operation has a kind that is counted, and a department, product and brand, be it 'other'.
SELECT minute, event_number, event_type, department, product, brand
FROM ecommerce.operations_staged
WHERE attempt = %(attempt)s
  AND (event_type NOT IN ('view', 'cart', 'remove_from_cart', 'purchase') OR '' IN (department, product, brand));
