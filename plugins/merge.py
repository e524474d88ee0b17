"""The fourth task of the chain: the merge, which runs entirely in MySQL, with its log, metrics and lineage."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from include import metrics, pipelines
from include.connections import WAREHOUSE_ETL, endpoint
from plugins import lineage
from plugins.batch import batch_id_of
from plugins.lineage_operator import ReportsLineage


class MergeIntoWarehouse(ReportsLineage, BaseOperator):
    """Publishes the attempt that passed the staging gate. For a merged batch it changes nothing, and sends no metrics."""

    template_fields = ("batch_id",)
    ui_color = "#d9eaf2"

    def __init__(self, *, pipeline: str, batch_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.batch_id = batch_id

    def execute(self, context: Context) -> None:
        from include.warehouse.errors import BatchRefused
        from include.warehouse.merge import merge

        batch_id = batch_id_of(self.batch_id, self.pipeline)
        target = endpoint(WAREHOUSE_ETL)
        try:
            result = merge(batch_id, target)
        except BatchRefused as refused:
            raise AirflowFailException(str(refused)) from None
        self.log.info("%s", result)
        self.lineage = lineage.merge_lineage(pipelines.get(result.pipeline), target, result.inserted)
        metrics.send_merge_counters(result)
