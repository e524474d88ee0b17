"""The fault matrix: tests the guarantees on real processes of a throw-away stack. `make faults`."""
