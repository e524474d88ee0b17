-- {{ fact.table }}: one row per {{ fact.key | map(attribute="name") | join(", ") }}.
{% import "macros.jinja" as m %}
{% macro columns() %}
  minute DATETIME NOT NULL COMMENT 'of create_time',
{% for one in fact.key %}
  {{ one.name }} {{ one.type }} NOT NULL{{ comment(one) }},
{% endfor %}
  event_count BIGINT NOT NULL,
{% for one in fact.measures %}
  {{ one.name }} {{ one.type }} {{ one.null }}{{ comment(one) }},
{% endfor %}
{% endmacro %}
{% macro comment(one) %}{% if one.comment %} COMMENT '{{ one.comment }}'{% endif %}{% endmacro %}
{% if not fact.output %}

CREATE TABLE IF NOT EXISTS {{ fact.staging }} (
  attempt BIGINT UNSIGNED NOT NULL,
{{ columns() }}  PRIMARY KEY (attempt, minute, {{ m.key(fact) }})
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
{% endif %}

CREATE TABLE IF NOT EXISTS {{ fact.contributions }} (
{{ columns() }}  PRIMARY KEY (minute, {{ m.key(fact) }}),
  KEY by_fact ({{ m.key(fact) }})
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Fact keys that a batch touched: written by its merge, read by check_warehouse.
CREATE TABLE IF NOT EXISTS {{ fact.touched }} (
  batch_id BIGINT UNSIGNED NOT NULL,
{% for one in fact.key %}
  {{ one.name }} {{ one.type }} NOT NULL,
{% endfor %}
  PRIMARY KEY (batch_id, {{ m.key(fact) }})
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {{ fact.table }} (
{% for one in fact.key %}
  {{ one.name }} {{ one.type }} NOT NULL{{ comment(one) }},
{% endfor %}
{% for one in fact.summed %}
  {{ one.fact_column }} {{ one.type }} {{ one.null }}{{ comment(one) }},
{% endfor %}
{% for one in fact.derived %}
  {{ one.name }} {{ one.type }}{{ comment(one) }},
{% endfor %}
{% for one in fact.definitions if not one.startswith("KEY ") %}
  {{ one }},
{% endfor %}
  PRIMARY KEY ({{ m.key(fact) }})
{%- for one in fact.definitions if one.startswith("KEY ") %},
  {{ one }}
{%- endfor %}

) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
