"""Benchmarks of throw-away stores, or of a running local stack."""
