"""The topics of events: the ingest mode, the broker's clients, what a message holds, and following a topic."""
