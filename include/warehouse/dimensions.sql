-- name: upsert
-- Adds a row of a dimension, or replaces the row with the same key.
INSERT INTO {{ dimension.table }} ({{ dimension.columns | join(", ") }})
VALUES ({{ (["%s"] * (dimension.columns | length)) | join(", ") }})
ON DUPLICATE KEY UPDATE
  {% for name in dimension.columns if name != dimension.key %}
  {{ name }} = VALUES({{ name }}){{ "" if loop.last else "," }}
  {% endfor %};
