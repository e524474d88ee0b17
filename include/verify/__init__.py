"""Does the warehouse agree with the lake, the topic and the copies behind it? `make verify` and its DAG."""
