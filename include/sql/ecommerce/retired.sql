-- Tables of older versions. Set-up drops them before it creates the pipeline's tables, so that a merge of an older
-- version, which would not write contributions, fails.

DROP TABLE IF EXISTS ecommerce.hours_touched;
DROP TABLE IF EXISTS ecommerce.event_hours;
