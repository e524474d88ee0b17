"""Compares the lakehouse with ledger and fact: the events of every minute, the counts of every hour, and the files.

A missing file is itself a finding: the minutes of its hour, and the hours to which they contribute, are not
compared.

A minute is read from the ledger, then from the table, and, if they differ, from the ledger again, so that an export or a
merge in between is not reported. This module needs the lakehouse's packages; it is imported only if the lakehouse is on.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from include.chunks import slices
from include.durations import DAY, HOUR, MINUTE
from include.lakehouse import hourly, ledger, repair
from include.lakehouse import table as tables
from include.lakehouse.hour_file import HourFile
from include.pipelines import Pipeline
from include.verify.report import Finding, trigger_remedy
from include.warehouse.folded_hours import hour_of
from include.warehouse.session import read, rows
from include.warehouse.statements import Statements

sql = Statements(__file__)

NO_TABLE, LOST_FILE, OTHER_EVENTS, UNKNOWN = (
    "lakehouse_no_table", "lakehouse_lost_file", "lakehouse_other_events", "lakehouse_unknown_minute",
)  # fmt: skip
HOUR_DIFFERS, COUNT_DIFFERS, HOUR_FILE = "lakehouse_hour", "lakehouse_count", "lakehouse_hour_file"
DUE, SKIPPED, CLOSED = "lakehouse_due", "lakehouse_skipped", "lakehouse_closed"
HOUR_DUE, HOUR_WAITS = "lakehouse_hour_due", "lakehouse_hour_waits"
NOT_DIFFERENCES = frozenset({DUE, SKIPPED, CLOSED, HOUR_DUE, HOUR_WAITS})  # listed separately
PURPOSES = {
    NO_TABLE: "The catalog does not have the table.",
    LOST_FILE: "A data file of the lakehouse is missing. Its hour's minutes, and the hours they contribute to, are not compared.",
    OTHER_EVENTS: "For a minute, the lakehouse does not have exactly the rows that were merged.",
    UNKNOWN: "The lakehouse has events of a minute that no merge has read.",
    HOUR_DIFFERS: "An hour of the lakehouse differs from the fact.",
    COUNT_DIFFERS: "The newest count of an hour differs from the events in the lakehouse.",
    HOUR_FILE: "The file of an hour's newest count is missing or differs.",
    DUE: "Minutes that are not in the lakehouse yet: the next runs write them.",
    SKIPPED: "Minutes that are not in the lakehouse, because the lake did not have the rows that were merged.",
    CLOSED: "Minutes that were closed before their newest merged read was written to the lakehouse.",
    HOUR_DUE: "Hours that are not counted with all their events yet: the next runs count them.",
    HOUR_WAITS: "Hours that keep their last count, because a minute is not in the lakehouse as it was merged.",
}


class LakehouseCheck:
    """The check of one pipeline. Afterwards `minutes` and `hours` are the numbers of minutes and hours compared."""

    def __init__(self, pipeline: Pipeline, session, conn) -> None:
        self._pipeline, self._session, self._conn = pipeline, session, conn
        self._zeros = dict.fromkeys(pipeline.lakehouse.measures, 0)
        self.minutes = self.hours = 0

    def findings(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[Finding]:
        """Findings on the minutes and hours from `start` to `end` (excluded), or on all: differences and NOT_DIFFERENCES.

        Changes nothing.
        """
        table = tables.find(self._pipeline)
        if table is None:
            yield Finding(
                NO_TABLE,
                None,
                self._pipeline.lakehouse.table,
                {"tables": 1},
                {"tables": 0},
                f"the next runs of {self._pipeline.name}_lakehouse create it and write all events, except those of closed "
                "minutes",
            )
            return
        lost = list(repair.lost_files(table))
        hours = {hour: self._fact_hours(hour) for hour in {repair.hour_of(file) for file in lost}}
        for file in lost:
            path, hour = file.file_path, repair.hour_of(file)
            if any((start is None or at > start - HOUR) and (end is None or at < end) for at in {hour, *hours[hour]}):
                yield Finding(LOST_FILE, hour, path, {"rows": file.record_count}, {}, self._remedy_for_hour(hour))
        for day in self._days(table):
            first, last = max(start or day, day), min(end or day + DAY, day + DAY)
            if first < last:
                yield from self._minute_findings(table, first, last, set(hours))
        lost_paths = {file.file_path for file in lost}
        yield from self._hour_findings(start, end, lost_paths, set().union(*hours.values()))

    def __str__(self) -> str:
        return (
            f"{self._pipeline.lakehouse.table}: {self.minutes:,} minutes of the lakehouse were compared with the ledger, and "
            f"{self.hours:,} hours with the fact."
        )

    def _remedy(self, start: datetime, end: datetime) -> str:
        return trigger_remedy(f"{self._pipeline.name}_lakehouse", start, end)

    def _remedy_for_hour(self, hour: datetime) -> str:
        return self._remedy(hour, hour + HOUR)

    def _fact_hours(self, hour: datetime) -> set[datetime]:
        """The hours of the fact to which minutes of this hour contribute."""
        query = sql("hours_of_minutes", fact=self._pipeline.lakehouse_fact)
        return {row["hour"] for row in self._rows(query, start=hour, end=hour + HOUR)}

    def _days(self, table) -> list[datetime]:
        """All days that the ledger or the table has minutes of."""
        days = {
            row["day"]
            for row in self._rows(
                "SELECT DISTINCT DATE(minute) AS day FROM etl.minute_ledger WHERE pipeline = %(pipeline)s"
            )
        }
        days |= {repair.hour_of(task.file).date() for task in table.scan().plan_files()}
        return sorted(datetime(day.year, day.month, day.day) for day in days)

    def _minute_findings(self, table, start: datetime, end: datetime, lost: set[datetime]) -> Iterator[Finding]:
        known = self._ledger(start, end)
        in_table = self._in_table(table, start, end, lost)
        for minute in sorted({*known, *in_table}):
            if hour_of(minute) in lost:
                continue
            row, stored = known.get(minute), in_table.get(minute, (0, 0))
            finding = self._finding_of(minute, row, stored)
            if finding and self._ledger(minute, minute + MINUTE).get(minute) == row:
                yield finding
            self.minutes += 1

    def _finding_of(self, minute: datetime, row: Mapping | None, stored: tuple[int, int]) -> Finding | None:
        where = self._pipeline.lakehouse.table
        actual = {"rows": stored[0], "id_checksum": stored[1]}
        if row is None or row["attempt"] is None:
            if not stored[0]:
                return None
            return Finding(UNKNOWN, minute, where, {"rows": 0}, actual, self._remedy(minute, minute + MINUTE))
        expected = {"rows": row["raw_rows"], "id_checksum": int(row["id_checksum"] or 0)}
        remedy = self._remedy(minute, minute + MINUTE)
        if is_skipped := row["lakehouse_skipped"] is not None and row["lakehouse_skipped"] == row["attempt"]:
            remedy = f"bring the lost rows back into the lake, then {remedy}"
        if row["current"]:
            if actual == expected:
                return None
            if row["state"] == "closed":
                remedy = "the minute is closed, so the lake may no longer have its events. Restore the table's files"
            return Finding(OTHER_EVENTS, minute, where, expected, actual, remedy)
        if row["state"] == "closed":
            remedy = "the lake may no longer have its events. If the table had them, restore its files"
            return Finding(CLOSED, minute, where, expected, actual, remedy)
        if is_skipped:
            return Finding(SKIPPED, minute, where, expected, actual, remedy)
        remedy = f"{self._pipeline.name}_lakehouse writes it"
        if row["state"] != "merged":
            remedy = f"{remedy} after its next merge; it is {row['state']}"
        return Finding(DUE, minute, where, expected, actual, remedy)

    def _ledger(self, start: datetime, end: datetime) -> dict[datetime, dict]:
        query = sql("minutes", is_current=ledger.sql("is_current"))
        records = self._rows(query, start=start, end=end)
        return {row["minute"]: row for row in records}

    def _in_table(self, table, start: datetime, end: datetime, lost: set[datetime]) -> dict[datetime, tuple[int, int]]:
        """For each minute, the number of rows and the sum of their ids' CRC-32; the hours `lost` are left out."""
        table.refresh()
        own_id = self._pipeline.event_id
        counts: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])
        files = table.scan(row_filter=tables.between("minute", start, end)).plan_files()
        for hour in sorted({repair.hour_of(task.file) for task in files} - lost):
            span = tables.between("minute", max(hour, start), min(hour + HOUR, end))
            events = table.scan(row_filter=span, selected_fields=("minute", own_id)).to_arrow()
            for minute, event_id in zip(events["minute"].to_pylist(), events[own_id].to_pylist(), strict=True):
                count = counts[minute]
                count[0] += 1
                count[1] += zlib.crc32((event_id or "").encode())
        return {minute: (number, checksum) for minute, (number, checksum) in counts.items()}

    def _hour_findings(
        self, start: datetime | None, end: datetime | None, lost: Collection[str], left_out: Collection[datetime]
    ) -> Iterator[Finding]:
        """Findings on hours, except those to which the files `lost` contributed."""
        binds = {"start": start or datetime(1000, 1, 1), "end": end or datetime(9999, 12, 31)}
        known = {row["hour"]: row for row in self._rows(sql("counts"), **binds)}
        fact_hours = self._rows(sql("hours", fact=self._pipeline.lakehouse_fact), **binds)
        hours = sorted({*known, *(row["hour"] for row in fact_hours)}.difference(left_out))
        for part in slices(hours, hourly.MAX_HOURS):
            comparison = hourly.compare(self._conn, self._pipeline, part, read_only=True, lost=lost)
            counted = {
                hour: known[hour]["counted_change"] for hour in part if hour in known and not known[hour]["to_count"]
            }
            files = hourly.read_files(self._pipeline, counted)
            for hour in part:
                self.hours += 1
                of_fact, of_table, published = self._figures(comparison, hour)
                row = known.get(hour)
                is_due = not row or row["to_count"] or hour in comparison.waits
                if is_due or of_fact != of_table or json.loads(row["counts"]) != published:
                    yield from self._recheck_hour(hour, lost)
                elif files.get(hour) != published:
                    place = HourFile.of(self._pipeline, hour, row["counted_change"]).url
                    yield Finding(HOUR_FILE, hour, place, published, files.get(hour, {}), self._remedy_for_hour(hour))

    def _recheck_hour(self, hour: datetime, lost: Collection[str]) -> Iterator[Finding]:
        """Compares this hour again, separately: it differs, or is not counted yet.

        An hour that differs waits, as in `hourly.count`, if it agrees without the minutes that have changed in the lake.
        """
        [row] = self._rows(sql("counts"), start=hour, end=hour + HOUR) or [None]
        comparison = hourly.compare(self._conn, self._pipeline, [hour], read_only=True, lost=lost)
        of_fact, of_table, published = self._figures(comparison, hour)
        if of_fact != of_table:
            changed = hourly.changed_in_lake(self._session, self._conn, self._pipeline, [hour], comparison.days)
            comparison = hourly.compare(self._conn, self._pipeline, [hour], read_only=True, changed=changed, lost=lost)
            of_fact, of_table, published = self._figures(comparison, hour)
        place = self._pipeline.lakehouse.table
        counts = json.loads(row["counts"]) if row and row["counts"] else {}
        if of_fact != of_table:
            yield Finding(
                HOUR_DIFFERS, hour, place, of_fact, of_table, f"{self._remedy_for_hour(hour)}; then verify again"
            )
        elif minutes := comparison.waits.get(hour):
            yield Finding(HOUR_WAITS, hour, place, published, counts, hourly.waiting_text(minutes).rstrip("."))
        elif row and row["to_count"]:
            yield Finding(HOUR_DUE, hour, place, published, {}, f"{self._pipeline.name}_lakehouse counts it")
        elif (counts if row else self._zeros) != published:
            yield Finding(COUNT_DIFFERS, hour, "etl.lakehouse_hours", published, counts, self._remedy_for_hour(hour))

    def _figures(self, comparison: hourly.Comparison, hour: datetime) -> Iterator[hourly.Figures]:
        """An hour's figures: of the fact, of the table (both without minutes that are not current), and published."""
        for figures in (comparison.of_fact, comparison.of_table, comparison.published):
            yield figures.get(hour, self._zeros)

    def _rows(self, query: str, **binds) -> list[dict]:
        return read(self._conn, rows, query, {"pipeline": self._pipeline.name, **binds})
