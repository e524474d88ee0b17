"""The ingest mode: MINUTEMARK_INGEST is `dag`, `connect` or `spark`, or empty if nothing consumes topics.

It is a setting, not the presence of a connection: DAG files must not read connections, and two modes at once would ingest
everything twice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from include.errors import MinutemarkError

SETTING = "MINUTEMARK_INGEST"
DAG = "dag"  # the DAGs <pipeline>_ingest
CONNECT = "connect"  # Kafka Connect with the Cassandra sink
SPARK = "spark"  # the same DAGs, each running a Spark stream
# The consumer of the dead-letter topic: with CONNECT a separate DAG, otherwise the ingest DAG of each pipeline.
DEAD_LETTERS = "dead_letters"


class UnknownIngestMode(MinutemarkError):
    """MINUTEMARK_INGEST is not an ingest mode."""


def ingest_mode(environ: Mapping[str, str] = os.environ) -> str | None:
    """DAG, CONNECT, SPARK, or None: producers then write to the lake themselves. Raises UnknownIngestMode."""
    value = environ.get(SETTING, "").strip().lower()
    if value not in ("", DAG, CONNECT, SPARK):
        raise UnknownIngestMode(
            f"{SETTING}={value} is not an ingest mode: set it to {DAG}, {CONNECT} or {SPARK}, or leave it empty."
        )
    return value or None


def group_of(pipeline_name: str, consumer: str) -> str:
    """The consumer group whose committed offsets show how much of the topic is in the lake, or rejected."""
    name = f"minutemark-{pipeline_name}"
    if consumer == DEAD_LETTERS:
        return f"{name}-dead-letters"
    # Connect puts its own prefix before a connector's name. A stream continues where a follower stopped: one group for both.
    return f"connect-{name}" if consumer == CONNECT else name


def dead_letters_of(topic: str) -> str:
    """The topic for messages that cannot be events."""
    return f"{topic}.dead"
