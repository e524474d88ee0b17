"""The fault matrix: what the guarantees say, tried on real processes of a stack of its own. `make faults`."""
