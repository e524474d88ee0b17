"""The table for Spark SQL, without Iceberg's jar: a view over the files that the newest snapshot names."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from include.lakehouse import table
from include.lakehouse.settings import LakehouseError
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def create_events_view(spark: SparkSession, pipeline: Pipeline, name: str = "events") -> None:
    """Create a temporary view of the events. It keeps showing this snapshot; create it again for a newer one.

    Minutes before the pipeline's `earliest`, and those that are too far ahead now, are left out.
    Raises LakehouseError if the table has no events, or if its files still contain deleted rows.
    """
    tasks = list(table.table(pipeline).scan().plan_files())
    if not tasks:
        raise LakehouseError(f"{pipeline.lakehouse.table} has no events yet. Run the DAG {pipeline.name}_lakehouse.")
    if any(task.delete_files for task in tasks):
        raise LakehouseError(
            f"Another engine has deleted rows of {pipeline.lakehouse.table}. Run the DAG {pipeline.name}_lakehouse for "
            "their minutes, or read the table with Iceberg's jar for Spark."
        )
    # Older files lack columns that were declared later.
    files = spark.read.option("mergeSchema", "true").parquet(*(task.file.file_path for task in tasks))
    latest = datetime.now(UTC) + pipeline.most_ahead
    files.where(
        f"minute BETWEEN TIMESTAMP_NTZ '{pipeline.earliest:%Y-%m-%d %H:%M:%S}' "
        f"AND TIMESTAMP_NTZ '{latest:%Y-%m-%d %H:%M:%S}'"
    ).createOrReplaceTempView(name)
