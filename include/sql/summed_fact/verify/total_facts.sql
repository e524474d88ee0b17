-- How many facts there are.
SELECT COUNT(*) AS facts FROM {{ fact.table }};
