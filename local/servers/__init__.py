"""The servers of the local stack: how each is set up, started and checked."""
