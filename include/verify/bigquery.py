"""Compares the hours in BigQuery with the counts of the lakehouse: the view must show the newest loaded count of each hour.

An hour is read from etl.lakehouse_hours, then from the view, and, if they differ, from etl.lakehouse_hours again, so that a
load in between is not reported. This module needs BigQuery's client, and is imported only if BigQuery is on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from include.bigquery import tables
from include.durations import HOUR
from include.pipelines import Pipeline
from include.verify.report import Finding, trigger_remedy
from include.warehouse.session import read, rows
from include.warehouse.statements import Statements

sql = Statements(__file__)

NO_TABLE, DIFFERS = "bigquery_no_table", "bigquery_hour"
UNKNOWN, DUE = "bigquery_unknown_hour", "bigquery_due"
NOT_DIFFERENCES = frozenset({DUE})
PURPOSES = {
    NO_TABLE: "BigQuery does not have the table or the view of hours that were loaded.",
    DIFFERS: "BigQuery does not show the newest count of an hour that was loaded.",
    UNKNOWN: "BigQuery shows an hour that the lakehouse has not counted.",
    DUE: "Hours that are not in BigQuery yet: the next runs load them.",
}


class BigQueryCheck:
    """The check of one pipeline. Afterwards `hours` is the number of hours that were compared."""

    def __init__(self, pipeline: Pipeline, conn) -> None:
        self._pipeline, self._conn = pipeline, conn
        self.hours = 0

    def __str__(self) -> str:
        return f"{tables.view(self._pipeline)}: {self.hours:,} hours of BigQuery were compared with the lakehouse's counts."

    def findings(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[Finding]:
        """Findings on the hours from `start` to `end` (excluded), or on all hours: differences, and hours to be loaded.

        Raises BigQueryError.
        """
        known, shown = self._counted_hours(start, end), self._hours_of_view(start, end)
        if shown is None and (loaded := [hour for hour, row in known.items() if not row["to_load"]]):
            run = f"the next run of {self._pipeline.name}_lakehouse"
            remedy = f"{run} creates what is missing, and loads all hours into a new table"
            yield Finding(NO_TABLE, None, tables.view(self._pipeline), {"hours": len(loaded)}, {}, remedy)
            return
        shown = shown or {}
        for hour in sorted({*known, *shown}):
            self.hours += 1
            finding = self._finding_of(hour, known.get(hour), shown.get(hour))
            if finding and self._counted_hours(hour, hour + HOUR).get(hour) == known.get(hour):
                yield finding

    def _finding_of(self, hour: datetime, row: Mapping | None, shown: Mapping | None) -> Finding | None:
        place = tables.view(self._pipeline)
        if row is None:
            remedy = f"delete the hour from {tables.loads_table(self._pipeline)}, or load into a new dataset"
            return Finding(UNKNOWN, hour, place, {}, shown or {}, remedy)
        expected = {"attempt": row["counted_change"], **json.loads(row["counts"])}
        if row["to_load"]:
            return Finding(DUE, hour, place, expected, shown or {}, f"{self._pipeline.name}_lakehouse loads it")
        if shown == expected:
            return None
        rerun = trigger_remedy(f"{self._pipeline.name}_lakehouse", hour, hour + HOUR)
        remedy = f"{rerun}: it counts and loads the hour again"
        return Finding(DIFFERS, hour, place, expected, shown or {}, remedy)

    def _counted_hours(self, start: datetime | None, end: datetime | None) -> dict[datetime, dict]:
        binds = {"pipeline": self._pipeline.name, "start": start, "end": end}
        records = read(self._conn, rows, sql("counts"), binds)
        return {row["hour"]: row for row in records}

    def _hours_of_view(self, start: datetime | None, end: datetime | None) -> dict[datetime, dict] | None:
        """The counts that the view shows by hour; None if the view or its table is missing. Raises BigQueryError."""
        with tables.translate_errors():
            from google.api_core.exceptions import NotFound
            from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

            names = ("attempt", *self._pipeline.lakehouse.measures)
            bounds = [(sign, name, time) for sign, name, time in ((">=", "start", start), ("<", "end", end)) if time]
            statement = sql("shown", names=names, view=tables.view(self._pipeline), bounds=bounds)
            binds = [ScalarQueryParameter(name, "TIMESTAMP", time.replace(tzinfo=UTC)) for _, name, time in bounds]
            client = tables.client()
            try:
                for name in (tables.loads_table(self._pipeline), tables.view(self._pipeline)):
                    client.get_table(name, retry=tables.retry())
                hours = tables.query(client, statement, QueryJobConfig(query_parameters=binds))
            except NotFound:
                return None
            return {row["hour"]: {name: row[name] for name in names} for row in hours}
