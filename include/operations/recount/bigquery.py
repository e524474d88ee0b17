"""The hours in BigQuery against the counts of the lakehouse: the view must show the newest loaded count of each hour.

An hour is read from etl.lakehouse_hours, then from the view, then from etl.lakehouse_hours again where they differ: a load in
between makes it no difference. It needs BigQuery's client, and is imported only where BigQuery is on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

from include.bigquery import tables
from include.bigquery.settings import BigQueryError
from include.operations.recount.report import Finding
from include.pipelines import Pipeline
from include.warehouse.session import rows

DIFFERS, UNKNOWN, DUE = "bigquery_hour", "bigquery_unknown_hour", "bigquery_due"
APART = frozenset({DUE})
PURPOSES = {
    DIFFERS: "BigQuery does not show the newest count of an hour that was loaded.",
    UNKNOWN: "BigQuery shows an hour that the lakehouse has not counted.",
    DUE: "Not yet in BigQuery: the next runs load it.",
}
_COUNTS = (
    "SELECT hour, counted_change, counts, to_load FROM etl.lakehouse_hours "
    "WHERE pipeline = %(pipeline)s AND counted_change IS NOT NULL"
)


class BigQueryRecount:
    """Of one pipeline. `hours` says afterwards how many were compared."""

    def __init__(self, pipeline: Pipeline, conn) -> None:
        self._pipeline, self._conn = pipeline, conn
        self.hours = 0

    def __str__(self) -> str:
        return f"{tables.view(self._pipeline)}: {self.hours:,} hours of BigQuery were compared with the lakehouse's counts."

    def findings(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[Finding]:
        """What differs in the hours from `start` until before `end`, or in all. Raises BigQueryError."""
        known, shown = self._counted(), self._shown()
        for hour in sorted({*known, *shown}):
            if (start and hour < start) or (end and hour >= end):
                continue
            self.hours += 1
            if (finding := self._judged(hour, known.get(hour), shown.get(hour))) and self._is_still(
                hour, known.get(hour)
            ):
                yield finding

    def _judged(self, hour: datetime, row: dict | None, shown: dict | None) -> Finding | None:
        place = tables.view(self._pipeline)
        if row is None:
            remedy = f"delete the hour from {tables.loads_table(self._pipeline)}, or load into a new dataset"
            return Finding(UNKNOWN, hour, place, {}, shown, remedy)
        expected = {"attempt": row["counted_change"], **json.loads(row["counts"])}
        if row["to_load"]:
            return Finding(DUE, hour, place, expected, shown or {}, f"{self._pipeline.name}_lakehouse loads it")
        if shown == expected:
            return None
        conf = {"from": f"{hour:%Y-%m-%dT%H:%M}Z", "to": f"{hour + timedelta(hours=1):%Y-%m-%dT%H:%M}Z"}
        remedy = f"trigger {self._pipeline.name}_lakehouse with {json.dumps(conf)}: it counts and loads the hour again"
        return Finding(DIFFERS, hour, place, expected, shown or {}, remedy)

    def _is_still(self, hour: datetime, row: dict | None) -> bool:
        return self._counted(hour).get(hour) == row

    def _counted(self, hour: datetime | None = None) -> dict[datetime, dict]:
        query = f"{_COUNTS} AND hour = %(hour)s" if hour else _COUNTS
        found = rows(self._conn.cursor(), query, {"pipeline": self._pipeline.name, "hour": hour})
        self._conn.rollback()
        return {row["hour"]: row for row in found}

    def _shown(self) -> dict[datetime, dict]:
        from google.api_core.exceptions import GoogleAPICallError, NotFound

        names = ("attempt", *self._pipeline.lakehouse.measures)
        query = f"SELECT DATETIME(hour) AS hour, {', '.join(names)} FROM `{tables.view(self._pipeline)}`"
        try:
            found = tables.client().query_and_wait(query)
        except NotFound:  # before the first load
            return {}
        except GoogleAPICallError as error:
            raise BigQueryError(f"{tables.view(self._pipeline)} cannot be read: {error.message}") from error
        return {row["hour"]: {name: row[name] for name in names} for row in found}
