"""Set-up: the schema of both stores and the grants of their accounts. Doing it again changes nothing."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def set_up() -> None:
    """Create what is missing in the lake and in the warehouse. Raises while a store does not answer: try again then."""
    from include.lake import schema as lake
    from include.warehouse import schema as warehouse

    lake.apply_schema()
    log.info("The lake's tables and grants are there.")
    warehouse.apply_schema()
    log.info("The warehouse's tables and grants are there.")
