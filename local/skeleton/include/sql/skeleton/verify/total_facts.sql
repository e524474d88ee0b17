-- How many facts there are.
SELECT COUNT(*) AS facts FROM skeleton.events_hourly;
