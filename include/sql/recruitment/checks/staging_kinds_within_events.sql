-- severity: fail
-- No contribution counts more of a kind than it has events, or more bids than clicks.
SELECT minute, job_id, dates, hours, event_count, clicks, impressions, conversions, qualified, unqualified, bid_count
FROM recruitment.events_staged
WHERE attempt = %(attempt)s
  AND (clicks + impressions + conversions + qualified + unqualified > event_count OR bid_count > clicks);
