"""Derives the lineage of columns from declarations, SQL and Spark's plans: `make lineage`, and the tests that compare."""
