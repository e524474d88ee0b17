-- Tables of older versions. Set-up drops them before anything else: an older merge then fails, and cannot leave the
-- contributions behind.

DROP TABLE IF EXISTS ecommerce.hours_touched;
DROP TABLE IF EXISTS ecommerce.event_hours;
