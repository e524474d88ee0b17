"""The topics of events: the ingest mode, the broker's clients, the contents of messages, and following a topic."""
