-- severity: fail
-- Every contribution is of a kind that is counted, has an event, and no negative value.
SELECT minute, hour, kind, event_count, value_sum
FROM skeleton.events_staged
WHERE attempt = %(attempt)s AND (kind NOT IN ('sale', 'refund') OR event_count < 1 OR value_sum < 0);
