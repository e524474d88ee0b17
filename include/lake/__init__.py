"""The Cassandra side: sessions, keys, the change log, the writers of events."""
