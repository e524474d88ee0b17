-- severity: fail
-- No metric is negative, and no contribution counts more of a kind than it has events.
SELECT minute, job_id, dates, hours, event_count, clicks, impressions, conversions, qualified, unqualified, bid_sum, bid_count
FROM recruitment.events_staged
WHERE attempt = %(attempt)s
  AND (LEAST(clicks, impressions, conversions, qualified, unqualified, bid_sum, bid_count) < 0 OR event_count < 1
    OR clicks + impressions + conversions + qualified + unqualified > event_count OR bid_count > clicks);
