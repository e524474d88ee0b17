"""The longest texts that columns of include/sql/control/warehouse.sql take, in characters."""

LONGEST_NAME = 190
LONGEST_REASON = 500
