"""Files of events into the lake or a topic: readers, imports and their progress, replays in real time."""
