"""Measurements of a running local stack."""
