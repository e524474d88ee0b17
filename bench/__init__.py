"""Benchmarks on throw-away stores, or on a running local stack."""
