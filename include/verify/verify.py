"""Compares topic, lake, ledger, contributions, facts, lakehouse and BigQuery, and reports each difference. Changes nothing."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from types import ModuleType

from include import pipelines
from include.bigquery import settings as bigquery
from include.chunks import slices
from include.connections import LAKE_READER, WAREHOUSE_ETL
from include.durations import DAY, MICROSECOND, MINUTE
from include.errors import MinutemarkError
from include.kafka.ingest_mode import ingest_mode
from include.lake.session import lake
from include.lakehouse import settings as lakehouse
from include.pipelines import Pipeline
from include.planner import minutes_between
from include.progress_log import Bar
from include.verify import identities, rules, unread
from include.verify.comparison import PURPOSES, Comparison, MinuteState, finding_of
from include.verify.identities import Identities
from include.verify.minutes import CHUNK, POLL, Minutes
from include.verify.report import Finding, Findings, PipelineReport, Report
from include.warehouse.session import warehouse
from include.window import whole_range

PATIENCE = 120.0  # seconds to wait for pending minutes
LINES = 20  # to print for each kind of difference


def verify(
    chosen: Sequence[Pipeline],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    patience: float = PATIENCE,
    lines: int = LINES,
    poll: float = POLL,
) -> Report:
    """Verify these pipelines: all minutes that lake or warehouse have, or all from `start` to `end` (excluded).

    Facts are always compared over all their keys. If an ingest mode is set, the messages that the topic still has are
    compared with the lake. Minutes that differ are compared again (include/verify/minutes.py). If lakehouse and BigQuery
    are on, their minutes and hours are compared too. A partition of the lake, or a copy, that cannot be read is a
    difference, with its remedy; everything else is verified.
    Raises LakeError, WarehouseError, BrokerError or ConnectionMissing if a store cannot be reached at all.
    """
    with lake(LAKE_READER) as session, warehouse(WAREHOUSE_ETL) as conn:
        conn.cursor().execute("SET SESSION TRANSACTION READ ONLY")
        return Report(
            [_PipelineCheck(pipeline, session, conn, lines).report(start, end, patience, poll) for pipeline in chosen]
        )


class _PipelineCheck:
    """Verifies one pipeline: topic, minutes, warehouse rules, facts and copies, and a second time the minutes that differed."""

    def __init__(self, pipeline: Pipeline, session, conn, lines: int) -> None:
        self._pipeline, self._session, self._conn = pipeline, session, conn
        self._minutes = Minutes(pipeline, session, conn)
        self._unsettled: dict[datetime, Comparison] = {}
        self._identities = Identities() if pipeline.event_id != "create_time" else None
        self._report = PipelineReport(pipeline.name, "all minutes", Findings(lines), Findings(lines))

    def report(self, start: datetime | None, end: datetime | None, patience: float, poll: float) -> PipelineReport:
        if start and end:
            self._report.span = f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        if ingest_mode():
            self._check_topic(start, end)
        days = list(_days(start, end)) if start and end else self._minutes.days()
        with Bar(f"{self._pipeline.name}: minutes", len(days) * DAY // MINUTE, unit="min") as bar:
            for number, day in enumerate(days):
                first = datetime(day.year, day.month, day.day)
                begin, until = max(start or first, first), min(end or first + DAY, first + DAY)
                minutes = list(minutes_between(begin, until)) if start and end else self._minutes.minutes_of_day(day)
                for chunk in slices(minutes, CHUNK):
                    self._compare(chunk)
                    bar.at(number * DAY // MINUTE + (chunk[-1] - first) // MINUTE)
                self._check_rules(begin, until)
        self._check_misplaced(start, end)
        self._check_facts()
        self._check_copies(start, end)
        for comparison in self._minutes.compare_again(self._unsettled, patience, poll):
            self._add(comparison)
        self._note_omissions()
        return self._report

    def _check_topic(self, start: datetime | None, end: datetime | None) -> None:
        from include.verify import topic

        check = topic.TopicCheck(self._pipeline, self._session, self._conn)
        for finding in check.findings(start, end):
            is_waiting = finding.kind == topic.WAITING
            (self._report.apart if is_waiting else self._report.differences).add(finding, topic.PURPOSES[finding.kind])
        self._report.notes.append(str(check))

    def _check_copies(self, start: datetime | None, end: datetime | None) -> None:
        if not (self._pipeline.lakehouse and lakehouse.is_on()):
            return
        from include.verify import lakehouse as copy

        self._check_copy("lakehouse", copy.LakehouseCheck(self._pipeline, self._session, self._conn), copy, start, end)
        if os.environ.get(bigquery.SETTING):
            from include.verify import bigquery as hours

            self._check_copy("bigquery", hours.BigQueryCheck(self._pipeline, self._conn), hours, start, end)

    def _check_copy(self, name: str, check, kinds: ModuleType, start: datetime | None, end: datetime | None) -> None:
        """Add the findings of a copy. A copy that cannot be compared is a finding, too; other stores are compared anyway."""
        try:
            for finding in check.findings(start, end):
                findings = self._report.apart if finding.kind in kinds.NOT_DIFFERENCES else self._report.differences
                findings.add(finding, kinds.PURPOSES[finding.kind])
            self._report.notes.append(str(check))
        except Exception as error:
            remedy = str(error)
            if not isinstance(error, MinutemarkError):
                traceback.print_exc()
                remedy = f"{type(error).__name__}: {error}"
            finding = Finding(f"{name}_unreadable", None, name, {"copy": "readable"}, {"copy": "unreadable"}, remedy)
            self._report.differences.add(
                finding, "The comparison of the copy did not complete; everything else was compared."
            )
            self._conn.rollback()

    def _check_misplaced(self, start: datetime | None, end: datetime | None) -> None:
        """Add what minutes do not show: partitions that no run reads, and ids with two create_times."""
        unreadable = self._minutes.unreadable
        for finding in unread.findings(self._session, self._pipeline, start, end, unreadable):
            self._report.differences.add(finding, unread.PURPOSES[finding.kind])
        for finding in self._identities.findings(self._session, self._pipeline, unreadable) if self._identities else ():
            self._report.differences.add(finding, identities.PURPOSE)

    def _compare(self, minutes: list[datetime]) -> None:
        for comparison in self._minutes.compare(
            minutes, on_row=self._identities.add if self._identities else None
        ).values():
            if comparison.may_change:
                self._unsettled[comparison.minute] = comparison
            else:
                self._add(comparison)

    def _add(self, comparison: Comparison) -> None:
        counted, ignored, rejected = comparison.known.fates
        rows = comparison.in_lake[0] if comparison.in_lake else 0
        self._report.add(minutes=1, lake_rows=rows, counted=counted, ignored=ignored, rejected=rejected)
        if comparison.state in (MinuteState.PENDING, MinuteState.OPEN, MinuteState.HELD, MinuteState.CLOSED):
            self._report.add(**{comparison.state.value: 1})
        if comparison.state in (MinuteState.SAME, MinuteState.CLOSED):
            return
        finding = finding_of(self._pipeline, comparison)
        differs = comparison.state in (MinuteState.DIFFERENT, MinuteState.UNREADABLE)
        findings = self._report.differences if differs else self._report.apart
        findings.add(finding, PURPOSES[finding.kind])

    def _check_rules(self, start: datetime, end: datetime) -> None:
        for finding, rule in rules.broken_minutes(self._conn, self._pipeline, start, end):
            self._report.differences.add(finding, rule.purpose)
        self._report.add(contributions=self._minutes.count_contributions(start, end))

    def _check_facts(self) -> None:
        totals = rules.totals(self._conn, self._pipeline)
        done, total = 0, totals.get("facts", 0)
        self._report.totals["facts"] = totals.get("facts")

        def next_slice() -> None:
            nonlocal done
            done += rules.SLICE_ROWS
            bar.at(min(done, total))

        with Bar(f"{self._pipeline.name}: facts", total, unit="row") as bar:
            for finding, rule in rules.broken_facts(self._conn, self._pipeline, next_slice):
                self._report.differences.add(finding, rule.purpose)

    def _note_omissions(self) -> None:
        name, closed = self._pipeline.name, self._report.totals["closed"]
        if closed:
            why = self._pipeline.retention_text or "recorded in the ledger"
            self._report.notes.append(f"{closed:,} minutes are closed ({why}): not compared with the lake.")
        if not rules.rules(self._pipeline, "facts"):
            self._report.notes.append(f"Facts are not compared: include/sql/{name}/verify has no facts_*.sql.")


def _days(start: datetime, end: datetime) -> Iterator[date]:
    day = start.date()
    while day <= (end - MICROSECOND).date():
        yield day
        day += DAY


def run_verify(
    pipeline: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    patience: float = PATIENCE,
    lines: int = LINES,
) -> Report:
    """Verify one pipeline or all, in a range of minutes or in all."""
    span = whole_range(start, end) if start or end else (None, None)
    return verify(pipelines.named_or_all(pipeline), start=span[0], end=span[1], patience=patience, lines=lines)
