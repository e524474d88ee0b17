"""The lengths of text columns in include/sql/control/warehouse.sql, in characters."""

LONGEST_NAME = 190
LONGEST_REASON = 500
