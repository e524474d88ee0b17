"""Derives the lineage of columns from declarations, SQL and Spark's plans, for `make lineage` and for tests."""
