"""A throw-away deployment of many nodes on one machine's loopback addresses: for rehearsals, not for production."""
