-- severity: fail
-- Every contribution is of a kind that is counted.
SELECT minute, hour, kind, event_count
FROM skeleton.events_staged
WHERE attempt = %(attempt)s AND kind NOT IN ('sale', 'refund');
