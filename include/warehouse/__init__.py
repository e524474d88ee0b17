"""The MySQL side: sessions, schema, the ledger, batches, gates and the merge."""
