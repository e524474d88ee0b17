"""Spark Structured Streaming as the ingest mode: from a topic into the lake, micro-batch by micro-batch."""
