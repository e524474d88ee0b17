"""Loads the hours whose newest count BigQuery does not have. etl.lakehouse_hours says which (`to_load`)."""

from __future__ import annotations

from dataclasses import dataclass

from include.bigquery import loads, tables
from include.bigquery.settings import BigQueryError
from include.connections import WAREHOUSE_ETL
from include.lakehouse.hour_file import HourFile
from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, rows, warehouse

# Of one call. BigQuery allows 30,000 changes of a table's partitions a day: 20 in each minute are 28,800.
MOST_HOURS = 20
# The hour that waits longest first, so that hours that change every minute do not displace others.
_DUE = (
    "SELECT hour, counted_change FROM etl.lakehouse_hours FORCE INDEX (hours_to_load) "
    "WHERE pipeline = %(pipeline)s AND to_load = 1 ORDER BY loaded_at, hour DESC LIMIT %(most)s"
)
_LOADED = (
    "UPDATE etl.lakehouse_hours SET loaded_change = %(attempt)s, loaded_at = CURRENT_TIMESTAMP(6) "
    "WHERE pipeline = %(pipeline)s AND hour = %(hour)s AND COALESCE(loaded_change, 0) <= %(attempt)s"
)


@dataclass
class Loads:
    """What was loaded; str() is the line for the task's log."""

    view: str
    hours: int = 0

    def __str__(self) -> str:
        return f"{self.hours} hours loaded. Query them in {self.view}."


def load_due(pipeline: Pipeline, most: int = MOST_HOURS) -> Loads:
    """Load what is due, a job for each hour. Raises BigQueryError if jobs failed, after the other hours are loaded."""
    done, failures = Loads(tables.view(pipeline)), []
    with warehouse(WAREHOUSE_ETL) as conn:
        due = rows(conn.cursor(), _DUE, {"pipeline": pipeline.name, "most": most})
        conn.rollback()
        if not due:
            return done
        bigquery = tables.client()
        table = tables.create_missing(bigquery, pipeline)
        for row in due:
            file = HourFile.of(pipeline, row["hour"], row["counted_change"])
            try:
                loads.load(bigquery, table, file)
            except BigQueryError as error:
                failures.append(error)
            else:
                _record(conn, file)
                done.hours += 1
    if failures:
        raise BigQueryError(f"{len(failures)} of {len(due)} hours failed to load. The first one: {failures[0]}")
    return done


def _record(conn, file: HourFile) -> None:
    values = {"pipeline": file.pipeline.name, "hour": file.hour, "attempt": file.attempt}
    in_transaction(conn, lambda cursor: cursor.execute(_LOADED, values))
