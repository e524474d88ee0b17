"""Housekeeping: deletes data past its retention (Retention of each pipeline), folds contributions, creates partitions.

Facts and the ledger stay. A nightly DAG and `./minutemark housekeeping` call this. Each step works in short
transactions and reports what it removed. After a kill the next run resumes; a second run removes nothing more.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec

from include import pipelines
from include.connections import LAKE_READER, LAKE_WRITER, WAREHOUSE_ETL, endpoint
from include.errors import MinutemarkError
from include.housekeeping import expired
from include.housekeeping.change_log_days import forget_days
from include.housekeeping.demo_events import remove_demo_events
from include.housekeeping.folding import fold
from include.lake.change_log import clock, copy_former_days
from include.lake.session import lake, translate_errors
from include.pipelines import Retention
from include.warehouse import partitions
from include.warehouse.session import warehouse

log = logging.getLogger(__name__)

RETENTIONS = tuple(field.name for field in dataclasses.fields(Retention))


class RetentionRefused(MinutemarkError):
    """A retention that is not valid; the message says what to enter instead."""


@dataclass(frozen=True)
class StepResult:
    """What one step did in one place; str() is its line."""

    where: str  # a pipeline, a lake table, or staging
    what: str  # with the verb: "batches removed"
    count: int

    def __str__(self) -> str:
        return f"{self.where}: {self.count} {self.what}"


def clean_warehouse(days: Mapping[str, float], dry: bool) -> Iterator[StepResult]:
    """Closes abandoned batches; removes dead staging, payloads of rejected events, samples, counts of fields, drift and
    batches past their retention, and what each housekeeping.sql removes.
    """
    with warehouse(WAREHOUSE_ETL) as conn:
        retentions = {
            name: override_retention(retention, days) for name, retention in expired.known_pipelines(conn).items()
        }
        overdue_batches = []
        for name, retention in retentions.items():
            overdue = expired.close_overdue_batches(conn, name, retention.staging, dry=dry)
            overdue_batches += overdue
            yield StepResult(name, "abandoned batches closed", len(overdue))
        rows = expired.remove_dead_staging(conn, overdue_batches=overdue_batches, dry=dry)
        yield StepResult("staging", "rows of dead attempts removed", rows)
        for name, retention in retentions.items():
            payloads = expired.empty_payloads(conn, name, retention.rejected_payloads, dry=dry)
            yield StepResult(name, "payloads of rejected events emptied", payloads)
            samples = expired.empty_samples(conn, name, retention.check_samples, dry=dry)
            yield StepResult(name, "samples of check results emptied", samples)
            counts = expired.remove_field_counts(conn, name, retention.field_counts, dry=dry)
            yield StepResult(name, "minutes of field counts removed", counts)
            drifts = expired.remove_drifts(conn, name, retention.batches, dry=dry)
            yield StepResult(name, "records of past drift removed", drifts)
            removed = expired.remove_batches(conn, name, retention.batches, dry=dry)
            yield StepResult(name, "batches removed", removed)
            if name in pipelines.all_pipelines() and not dry:  # its statements delete: they cannot only count
                rows = expired.remove_of_pipeline(conn, pipelines.get(name))
                yield StepResult(name, "rows removed by its housekeeping.sql", rows)


def expire_change_log(days: Mapping[str, float], dry: bool) -> Iterator[StepResult]:
    """Deletes days of the change log that are merged or closed and not recently touched, with their cursors."""
    pipelines_by_table: dict[str, list[pipelines.Pipeline]] = {}
    for pipeline in pipelines.all_pipelines().values():
        pipelines_by_table.setdefault(pipeline.lake_table, []).append(pipeline)
    with lake(LAKE_WRITER) as writer, lake(LAKE_READER) as reader, warehouse(WAREHOUSE_ETL) as conn:
        if not dry:
            with translate_errors(endpoint(LAKE_WRITER)):  # else an error would name the reader's connection
                copy_former_days(reader, writer)
        for lake_table, its_pipelines in pipelines_by_table.items():
            age = max(override_retention(pipeline.retention, days).change_log for pipeline in its_pipelines)
            forgotten, kept = forget_days(reader, writer, conn, lake_table, its_pipelines, age, dry=dry)
            yield StepResult(lake_table, "days of its change log deleted", forgotten)
            yield StepResult(
                lake_table, "old days kept, because of pending or held minutes, or touches that were not polled", kept
            )


def remove_demo_traffic(days: Mapping[str, float], dry: bool) -> Iterator[StepResult]:
    """Removes old minutes of the lake that hold only demo events. Only with MINUTEMARK_DEMO=1."""
    if os.environ.get("MINUTEMARK_DEMO") != "1":
        return
    with lake(LAKE_WRITER) as writer, lake(LAKE_READER) as reader, warehouse(WAREHOUSE_ETL) as conn:
        for pipeline in pipelines.all_pipelines().values():
            if find_spec(f"include.demo.{pipeline.name}"):
                age = override_retention(pipeline.retention, days).demo_events
                count = remove_demo_events(reader, writer, conn, pipeline, age, dry=dry)
                yield StepResult(pipeline.name, "minutes of demo events closed, and removed from the lake", count)


def fold_contributions(days: Mapping[str, float], dry: bool) -> Iterator[StepResult]:
    """Folds contributions of old hours: one row per fact key and hour instead of up to sixty. Facts do not change."""
    with lake(LAKE_READER) as reader:
        now = clock(reader)
    with warehouse(WAREHOUSE_ETL) as conn:
        for pipeline in pipelines.all_pipelines().values():
            age = override_retention(pipeline.retention, days).contributions
            yield StepResult(pipeline.name, "hours of contributions folded", fold(conn, pipeline, now, age, dry=dry))


def make_partitions(days: Mapping[str, float], dry: bool) -> Iterator[StepResult]:
    """Creates partitions a week ahead, before there are rows for them, so that no merge waits for DDL."""
    with warehouse(WAREHOUSE_ETL) as conn:
        for pipeline in pipelines.all_pipelines().values():
            if partitions.tables_by_day(pipeline):
                yield StepResult(pipeline.name, "partitions created", partitions.make_ahead(conn, pipeline, dry=dry))


def drop_days(days: Mapping[str, float], dry: bool) -> Iterator[StepResult]:
    """Drops old days of tables with a partition for each day, if the pipeline declares `rows_by_day`. Facts do not change."""
    with warehouse(WAREHOUSE_ETL) as conn:
        for pipeline in pipelines.all_pipelines().values():
            declared = pipeline.retention.rows_by_day  # without it, the account has no permission to drop days
            if declared and (age := override_retention(pipeline.retention, days).rows_by_day):
                dropped = partitions.drop_before(conn, pipeline, age, dry=dry)
                yield StepResult(pipeline.name, "partitions dropped", dropped)


STEPS: dict[str, Callable[[Mapping[str, float], bool], Iterator[StepResult]]] = {
    "make_partitions": make_partitions,
    "drop_days": drop_days,
    "clean_warehouse": clean_warehouse,
    "expire_change_log": expire_change_log,
    "remove_demo_traffic": remove_demo_traffic,
    "fold_contributions": fold_contributions,
}


def run_step(name: str, days: Mapping[str, float | None], *, dry: bool = False) -> list[StepResult]:
    """Run one step; `days` overrides retentions by name, None leaves the declared one. Raises RetentionRefused."""
    results = []
    for result in STEPS[name](_valid_days(days), dry):
        log.info("%s%s", "Dry run, nothing is changed: " if dry else "", result)
        results.append(result)
    return results


def override_retention(retention: Retention, days: Mapping[str, float]) -> Retention:
    """The declared retention with the requested overrides."""
    try:
        return dataclasses.replace(retention, **{name: timedelta(days=value) for name, value in days.items()})
    except ValueError as error:
        raise RetentionRefused(str(error)) from None


def _valid_days(days: Mapping[str, float | None]) -> dict[str, float]:
    unknown = sorted(set(days) - set(RETENTIONS))
    if unknown:
        raise RetentionRefused(f"Unknown retention {unknown[0]!r}. Choose one of {', '.join(RETENTIONS)}.")
    valid = {name: value for name, value in days.items() if value is not None}
    override_retention(Retention(), valid)  # raises before anything is removed
    return valid


@dataclass(frozen=True)
class HousekeepingResult:
    """What all steps did; their lines were reported while they ran."""

    removed: list[StepResult]  # and created or kept; a name of the JSON output
    failed: list[str]  # steps

    @property
    def problem(self) -> str | None:
        return f"These steps failed: {', '.join(self.failed)}." if self.failed else None

    def __str__(self) -> str:
        return ""


def run_housekeeping(
    *, dry_run: bool = False, report: Callable[[str], object] = print, **keep: float | None
) -> HousekeepingResult:
    """Run every step, even if others fail; `keep_<retention>` overrides a retention with this many days."""
    days = _valid_days({name.removeprefix("keep_"): value for name, value in keep.items()})
    outcome = HousekeepingResult([], [])
    for name, step in STEPS.items():
        report(f"{name}{' (dry run: nothing is changed)' if dry_run else ''}")
        try:
            for result in step(days, dry_run):
                report(f"  {result}")
                outcome.removed.append(result)
        except MinutemarkError as error:
            report(f"  failed: {error}")
            outcome.failed.append(name)
    return outcome
