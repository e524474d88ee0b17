"""A data-quality gate, before or after the merge: all its checks run, and every result is stored and logged."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from include import pipelines
from include.connections import WAREHOUSE_ETL
from plugins.assets import AnnouncementMixin
from plugins.batch import batch_id_of


class QualityGate(AnnouncementMixin, BaseOperator):
    """Fails without retries if its gate does not pass: a retry would find the same rows.

    The staging gate does not pass if the whole batch fails, or if minutes that are held or still open leave nothing to
    publish. Held minutes do not fail it while others pass, nor do waiting minutes if none is held. The warehouse gate does
    not pass if facts and contributions disagree.
    """

    template_fields = ("batch_id",)
    ui_color = "#f2ead9"

    def __init__(self, *, pipeline: str, gate: str, batch_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.gate = gate
        self.batch_id = batch_id

    def execute(self, context: Context) -> None:
        from include.warehouse.errors import BatchRefused
        from include.warehouse.gates import run_gate
        from include.warehouse.session import warehouse

        batch_id = batch_id_of(self.batch_id, self.pipeline)
        try:
            with warehouse(WAREHOUSE_ETL) as conn:
                result = run_gate(conn, batch_id, self.gate)
                for line in str(result).splitlines():
                    self.log.info("%s", line)
                if result.passed:
                    self._announce(context, conn, batch_id)
        except BatchRefused as refused:
            raise AirflowFailException(str(refused)) from None
        if not result.passed:
            raise AirflowFailException(result.message)

    def _announce(self, context: Context, conn, batch_id: int) -> None:
        if self.announces_hours(context):
            self.announce_hours(context, pipelines.get(self.pipeline))
        self.announce_batch(context, conn, batch_id)
