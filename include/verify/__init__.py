"""Compares the warehouse with the lake, the topic and the copies: `./minutemark verify` and its DAG."""
