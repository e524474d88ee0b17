"""The whole chain: the DAGs themselves, on the real stores, with real Spark."""
