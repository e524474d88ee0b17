"""Set-up: the schema of both stores, the grants of their accounts, the topics. Doing it again changes nothing."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def set_up() -> str:
    """Create what is missing in the lake, in the warehouse and, if an ingest mode is set, in Kafka.

    Raises while a store does not answer: try again then.
    """
    from include.kafka.ingest_mode import ingest_mode
    from include.lake import schema as lake
    from include.warehouse import schema as warehouse

    lake.apply_schema()
    log.info("The lake's tables and grants are there.")
    warehouse.apply_schema()
    log.info("The warehouse's tables and grants are there.")
    if ingest_mode():
        from include.kafka import topics

        topics.make_topics()
        log.info("The topics are there.")
    return "Schema applied: tables, grants and topics exist."
