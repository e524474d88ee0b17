"""The fault-injection suite: tests the guarantees on real processes of a throw-away stack. `make faults` runs it."""
