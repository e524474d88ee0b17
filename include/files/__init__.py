"""Moves files of events into the lake or a topic: readers, imports and replays, and their progress."""
