-- name: view_rows
-- The rows of a view for BI tools, in a range of hours or in all hours: one row per row of the view.
SELECT {{ view.columns | map(attribute="name") | join(", ") }} FROM {{ view.name }}
WHERE TRUE {{- " AND hour_utc >= %(start)s" if start }} {{- " AND hour_utc < %(end)s" if end }};
