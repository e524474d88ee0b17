"""Set-up: the schema of both stores, the grants of their accounts, and the topics. Repeating it is safe."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def set_up() -> str:
    """Create what is missing in the lake, in the warehouse and, if an ingest mode is set, in Kafka.

    Raises MinutemarkError if a store does not answer; then call set_up again.
    """
    from include.kafka.ingest_mode import ingest_mode
    from include.lake import schema as lake
    from include.warehouse import schema as warehouse

    lake.apply_schema()
    log.info("The lake's schema has been applied.")
    warehouse.apply_schema()
    log.info("The warehouse's schema has been applied.")
    if not ingest_mode():
        return "Schema applied. No topics were created: MINUTEMARK_INGEST is empty."
    from include.kafka import topics

    topics.make_topics()
    log.info("The topics exist.")
    return "Schema applied, and the topics exist."
