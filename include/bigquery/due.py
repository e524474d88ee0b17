"""Loads the hours whose newest count BigQuery does not have. etl.lakehouse_hours says which (`to_load`)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from include.bigquery import loads, tables
from include.bigquery.settings import BigQueryError
from include.connections import WAREHOUSE_ETL
from include.lakehouse import hourly, turns
from include.lakehouse.hour_file import HourFile
from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, read, rows, warehouse, write
from include.warehouse.statements import Statements

sql = Statements(__file__)

# In one call. BigQuery allows 30,000 changes to a table's partitions a day: 20 every minute make 28,800.
MAX_HOURS = 20
_TABLE = "SELECT table_id, created_ms FROM etl.bigquery_tables WHERE pipeline = %(pipeline)s"


@dataclass
class Loads:
    """What was loaded; str() is the line for the task's log."""

    view: str
    hours: int = 0

    def __str__(self) -> str:
        return f"{self.hours} hours loaded. Query them in {self.view}."


def load_due(pipeline: Pipeline, max_hours: int = MAX_HOURS) -> Loads:
    """Load the hours that are due, one job for each. For a new table, all hours are due.

    A missing file is written again. Raises BigQueryError if hours failed, after the others are loaded.
    """
    summary, failures = Loads(tables.view(pipeline)), {}
    with warehouse(WAREHOUSE_ETL) as conn:
        bigquery = tables.client()
        table = tables.create_missing(bigquery, pipeline)
        _use_table(conn, pipeline, table)
        due = turns.take(conn, pipeline, turns.LOAD, max_hours)
        for row in due:
            file = HourFile.of(pipeline, row["hour"], row["counted_change"])
            try:
                if not file.exists():
                    hourly.write_file(
                        pipeline,
                        hourly.HourlyCount(
                            row["hour"], row["counted_change"], json.loads(row["counts"]), row["counted_at"]
                        ),
                    )
                loads.load(bigquery, table, file)
            except (BigQueryError, OSError) as error:  # OSError: the file cannot be read or written
                failures[row["hour"]] = error
            else:
                _record(conn, file)
                summary.hours += 1
    if failures:
        hour, first = next(iter(failures.items()))
        raise BigQueryError(
            f"{len(failures)} of {len(due)} hours failed to load. The first one, {hour:%Y-%m-%d %H:%M}: {first}"
        ) from first
    return summary


def _use_table(conn, pipeline: Pipeline, table) -> None:
    """Make all hours due if the warehouse records another table: a new dataset, or a table that was created again."""
    binds = {"pipeline": pipeline.name, "table_id": table.full_table_id, "created_ms": tables.created_ms(table)}
    known = read(conn, rows, _TABLE, binds)
    if known == [{name: binds[name] for name in ("table_id", "created_ms")}]:
        return

    def use(cursor) -> None:
        cursor.execute(sql("not_loaded"), binds)
        cursor.execute(sql("use_table"), binds)

    in_transaction(conn, use)


def _record(conn, file: HourFile) -> None:
    values = {"pipeline": file.pipeline.name, "hour": file.hour, "version": file.version}
    write(conn, sql("loaded"), values)
