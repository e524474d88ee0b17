-- severity: fail
-- A contribution's counts by kind add up to at most its events, and it has at most as many bids as clicks.
SELECT minute, job_id, dates, hours, event_count, clicks, impressions, conversions, qualified, unqualified, bid_count
FROM recruitment.events_staged
WHERE attempt = %(attempt)s
  AND (clicks + impressions + conversions + qualified + unqualified > event_count OR bid_count > clicks);
