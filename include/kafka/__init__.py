"""The topics of events: which way in is used, the broker's clients, what a message holds, and following a topic."""
