"""Which way in takes the topics' events to the lake: MINUTEMARK_INGEST, `dag`, `connect`, or nothing where there is no broker.

A setting, not the presence of a connection: DAG files may ask for no connection, and two ways in at once would do
everything twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

SETTING = "MINUTEMARK_INGEST"
DAG = "dag"  # the DAGs <pipeline>_ingest
CONNECT = "connect"  # Kafka Connect with the Cassandra sink
DEAD_LETTERS = "dead_letters"  # beside it, the DAG that consumes what Connect's transform refused


class UnknownIngestMode(ValueError):
    """MINUTEMARK_INGEST names no way in."""


def ingest_mode(environ: Mapping[str, str] = os.environ) -> str | None:
    """DAG, CONNECT, or None: producers then write to the lake themselves. Raises UnknownIngestMode."""
    asked = environ.get(SETTING, "").strip().lower()
    if asked not in ("", DAG, CONNECT):
        raise UnknownIngestMode(f"{SETTING}={asked} is no way in: set it to {DAG} or {CONNECT}, or leave it empty.")
    return asked or None


def group_of(pipeline_name: str, way: str) -> str:
    """The consumer group whose committed offsets say how much of its topic is in the lake, or rejected."""
    name = f"minutemark-{pipeline_name}"
    if way == DEAD_LETTERS:
        return f"{name}-dead-letters"
    return f"connect-{name}" if way == CONNECT else name  # Connect puts its own prefix before a connector's name


def dead_letters_of(topic: str) -> str:
    """The topic to which Connect hands messages that its transform refuses."""
    return f"{topic}.dead"
