"""Operators that report their lineage to the OpenLineage provider, which is idle without a transport.

OpenLineage is not imported until the provider requests an operator's data sets: docs/monitoring.md.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from plugins.lineage import Lineage


@contextlib.contextmanager
def hidden_while_idle() -> Iterator[None]:
    """Hides OpenLineage's Spark helpers from imports in this block, if OpenLineage has no transport.

    The Spark operator works without them. Importing them loads OpenLineage's listener and client: 0.9 s in every task.
    """
    from airflow.providers.openlineage.conf import is_disabled

    helpers = "airflow.providers.openlineage.utils.spark"
    hidden = is_disabled() and helpers not in sys.modules
    if hidden:
        sys.modules[helpers] = None  # importing it then raises ImportError  # ty: ignore[invalid-assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[helpers]


class ReportsLineage:
    """An operator whose execute() sets `lineage`; the OpenLineage provider requests it when the task ends.

    execute() computes it, because the provider requests it in a forked process, which should not talk to Airflow.
    """

    lineage: Lineage | None = None

    def get_openlineage_facets_on_complete(self, task_instance) -> OperatorLineage | None:
        """The provider calls this by its name, after a failure too."""
        if self.lineage is None:
            return None
        from plugins.lineage_facets import operator_lineage

        return operator_lineage(self.lineage)
