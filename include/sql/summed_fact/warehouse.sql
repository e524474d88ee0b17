-- {{ fact.table }}: one row per {{ fact.key | map(attribute="name") | join(", ") }}.
{% import "macros.jinja" as m %}
{% macro columns() %}
  minute DATETIME NOT NULL COMMENT 'of create_time',
{% for column in fact.key %}
  {{ column.name }} {{ column.type }} NOT NULL{{ comment(column) }},
{% endfor %}
  event_count BIGINT NOT NULL,
{% for measure in fact.measures %}
  {{ measure.name }} {{ measure.type }} {{ measure.null }}{{ comment(measure) }},
{% endfor %}
{% endmacro %}
{% macro comment(declared) %}{% if declared.comment %} COMMENT '{{ declared.comment | replace("'", "''") }}'{% endif %}{% endmacro %}
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
{% for column in fact.key %}
  {{ column.name }} {{ column.type }} NOT NULL,
{% endfor %}
  PRIMARY KEY (batch_id, {{ m.key(fact) }})
) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {{ fact.table }} (
{% for column in fact.key %}
  {{ column.name }} {{ column.type }} NOT NULL{{ comment(column) }},
{% endfor %}
{% for measure in fact.summed %}
  {{ measure.fact_column }} {{ measure.type }} {{ measure.null }}{{ comment(measure) }},
{% endfor %}
{% for derived in fact.derived %}
  {{ derived.name }} {{ derived.type }}{{ comment(derived) }},
{% endfor %}
{% for definition in fact.definitions if not definition.startswith("KEY ") %}
  {{ definition }},
{% endfor %}
  PRIMARY KEY ({{ m.key(fact) }})
{%- for definition in fact.definitions if definition.startswith("KEY ") %},
  {{ definition }}
{%- endfor %}

) ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
