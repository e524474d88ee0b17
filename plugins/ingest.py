"""The task of `<pipeline>_ingest` with MINUTEMARK_INGEST=dag: follows the topic until the next task takes over."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Context

from include import pipelines
from include.connections import LAKE_WRITER, endpoint
from plugins import lineage
from plugins.lineage_operator import ReportsLineage


class FollowTopic(ReportsLineage, BaseOperator):
    """Writes events to the lake, and other messages to the rejected events; see include/kafka/ingest.py."""

    ui_color = "#e3f2d9"

    def __init__(self, *, pipeline: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline

    def execute(self, context: Context) -> None:
        from include.kafka.ingest import ingest
        from plugins.topics import FollowerHook

        pipeline = pipelines.get(self.pipeline)
        lake, hook = endpoint(LAKE_WRITER), FollowerHook(pipeline)
        summary = ingest(pipeline, hook.get_consumer, lake_writer=lake)
        for line in str(summary).splitlines():
            self.log.info("%s", line)
        self.lineage = lineage.ingest_lineage(pipeline, hook.servers, lake, summary.written)
