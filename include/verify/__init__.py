"""Compares the warehouse with the lake, the topic and the copies: `make verify` and its DAG."""
