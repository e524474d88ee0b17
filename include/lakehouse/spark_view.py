"""The table for Spark SQL, without Iceberg's jar: a view over the files that the newest snapshot names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.lakehouse import table
from include.lakehouse.settings import LakehouseError
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def create_events_view(spark: SparkSession, pipeline: Pipeline, name: str = "events") -> None:
    """Create a temporary view of all events. It keeps showing this snapshot; create it again for a newer one.

    Raises LakehouseError if the table has no events.
    """
    files = [task.file.file_path for task in table.table(pipeline).scan().plan_files()]
    if not files:
        raise LakehouseError(f"{pipeline.lakehouse.table} has no events yet. Run {pipeline.name}_lakehouse.")
    # Older files lack columns that were declared later.
    spark.read.option("mergeSchema", "true").parquet(*files).createOrReplaceTempView(name)
